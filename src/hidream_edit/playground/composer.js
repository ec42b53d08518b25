// What is asked for: a picture, words, settings.
import { upload } from "./api.js";
import { element, Fields } from "./fields.js";

const SAMPLE = "/playground/sample.jpg";
const EXAMPLES_SHOWN = 8;
const $ = (id) => document.getElementById(id);

export class Composer {
  #source = null; // {shown: an address to show, url: its address on the server, or file: what is still to be uploaded}
  #fields = null;
  #isBusy = false;

  constructor({ onRun, onProblem }) {
    this.onProblem = onProblem;
    this.#listenForPictures();
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      onRun();
    });
    $("instruction").addEventListener("input", () => this.#allow());
    $("instruction").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("run").disabled) onRun();
    });
  }

  get words() {
    return $("instruction").value.trim();
  }

  set words(text) {
    $("instruction").value = text;
    this.#allow();
  }

  get hasSource() {
    return this.#source !== null;
  }

  set isBusy(isBusy) {
    this.#isBusy = isBusy;
    this.#allow();
  }

  // The input as the endpoint takes it; a picture that is not on the server yet is uploaded.
  async input() {
    this.#source.url ??= await upload(this.#source.file);
    return { edit_instruction: this.words, image_url: this.#source.url, ...this.#fields?.values() };
  }

  // `viewable` is an address that an <img> can load, where it is another.
  use(url, viewable = url) {
    this.#setSource({ shown: viewable, url });
  }

  describe(schema) {
    this.#fields = new Fields($("fields"), schema);
  }

  suggest(examples) {
    const some = [...examples].sort(() => Math.random() - 0.5).slice(0, EXAMPLES_SHOWN);
    $("examples").replaceChildren(
      ...some.map((words) => {
        const chip = element("button", { type: "button", textContent: words });
        chip.addEventListener("click", () => {
          this.words = words;
          ($("run").disabled ? $("instruction") : $("run")).focus();
        });
        return chip;
      }),
    );
  }

  #choose(file) {
    if (!file) return;
    if (file.type.startsWith("image/")) this.#setSource({ shown: URL.createObjectURL(file), file });
    else this.onProblem(new Error(`${file.name || "This"} is not a picture.`));
  }

  #setSource(next) {
    if (this.#source?.shown.startsWith("blob:")) URL.revokeObjectURL(this.#source.shown);
    this.#source = next;
    $("source").src = next.shown;
    $("source").hidden = false;
    $("invite").hidden = true;
    $("drop").classList.add("filled");
    this.#allow();
  }

  #allow() {
    const missing = !this.#source ? "Choose a picture first." : !this.words ? "Say what should change." : "";
    $("run").disabled = this.#isBusy || Boolean(missing);
    $("hint").textContent = this.#isBusy ? "" : missing;
  }

  #listenForPictures() {
    for (const id of ["pick", "shoot"]) $(id).addEventListener("change", (event) => this.#choose(event.target.files[0]));
    $("sample").addEventListener("click", async () => {
      const picture = await (await fetch(SAMPLE)).blob();
      this.#choose(new File([picture], "sample.jpg", { type: "image/jpeg" }));
    });
    document.addEventListener("paste", (event) => {
      this.#choose([...event.clipboardData.files].find((one) => one.type.startsWith("image/")));
    });
    for (const type of ["dragenter", "dragover"])
      document.addEventListener(type, (event) => {
        event.preventDefault();
        $("drop").classList.add("over");
      });
    for (const type of ["dragleave", "drop"]) document.addEventListener(type, () => $("drop").classList.remove("over"));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#choose(event.dataTransfer.files[0]);
    });
  }
}
