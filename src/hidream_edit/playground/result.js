// What came of a request: pictures, facts, and the request as code.
import { snippets } from "./code.js";
import { compare } from "./compare.js";
import { element } from "./fields.js";
import { duration } from "./running.js";

const $ = (id) => document.getElementById(id);

export class Result {
  #output = null;
  #index = 0;

  constructor({ onUse, onAgain, onCopy }) {
    const image = () => this.#output.images[this.#index];
    $("use").addEventListener("click", () => onUse(image().url));
    $("again").addEventListener("click", onAgain);
    $("copy-link").addEventListener("click", () => onCopy(new URL(image().url, location).href, "Link copied"));
    $("copy-code").addEventListener("click", () => onCopy($("snippet").textContent, "Code copied"));
    this.#listenForTabs();
  }

  hide() {
    $("result").hidden = true;
  }

  // `asked` is what this browser remembers of the request: {viewable, input}, or nothing.
  show(id, output, asked) {
    this.#output = output;
    this.source = asked?.viewable ?? null;
    this.input = asked?.input ?? { edit_instruction: output.prompt, image_url: "…" };
    $("result").hidden = false;
    $("strip").hidden = output.images.length < 2;
    $("strip").replaceChildren(...output.images.map((image, index) => this.#thumbnail(image, index)));
    facts({
      Seed: output.seed,
      Size: `${output.images[0].width} × ${output.images[0].height}`,
      Time: output.timings.inference === undefined ? null : duration(output.timings.inference),
      Steps: this.input.num_inference_steps ?? null,
      Guidance: this.input.guidance_scale ?? null,
      Checked: checked(output.has_nsfw_concepts),
      Request: id,
    });
    this.#select(0);
    this.#code("curl");
  }

  #thumbnail(image, index) {
    const button = element("button", { type: "button" });
    button.append(element("img", { src: image.url, alt: `Picture ${index + 1}` }));
    button.addEventListener("click", () => this.#select(index));
    return button;
  }

  #select(index) {
    this.#index = index;
    const image = this.#output.images[index];
    for (const [number, button] of [...$("strip").children].entries()) button.setAttribute("aria-pressed", number === index);
    const alone = () => element("img", { src: image.url, alt: "The edited picture" });
    $("canvas").replaceChildren(this.source ? compare(this.source, image.url) : alone());
    $("download").href = image.url;
    $("download").download = `edit-${this.#output.seed + index}.${image.content_type.split("/")[1]}`;
  }

  #code(language) {
    for (const tab of document.querySelectorAll("[role=tab]")) {
      const isChosen = tab.dataset.language === language;
      tab.setAttribute("aria-selected", isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
    }
    $("snippet").setAttribute("aria-labelledby", `tab-${language}`);
    $("snippet").textContent = snippets[language]({ ...this.input, seed: this.#output.seed }, location.origin);
  }

  #listenForTabs() {
    const tabs = [...document.querySelectorAll("[role=tab]")];
    for (const [index, tab] of tabs.entries()) {
      tab.addEventListener("click", () => this.#code(tab.dataset.language));
      tab.addEventListener("keydown", ({ key }) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[key];
        if (!by) return;
        const next = tabs[(index + by + tabs.length) % tabs.length];
        this.#code(next.dataset.language);
        next.focus();
      });
    }
  }
}

const checked = (flags) => (!flags.length ? "no checker installed" : flags.some(Boolean) ? "flagged" : "clean");

function facts(values) {
  const pairs = Object.entries(values).filter(([, value]) => value !== null);
  $("facts").replaceChildren(
    ...pairs.map(([name, value]) => {
      const pair = element("div");
      pair.append(element("dt", { textContent: name }), element("dd", { textContent: value }));
      return pair;
    }),
  );
}
