// The caller's earlier edits: searchable, a page at a time.
import { requests } from "./api.js";
import { element } from "./fields.js";

const WORDS = { IN_QUEUE: "waiting", IN_PROGRESS: "running", FAILED: "failed", CANCELLED: "cancelled", COMPLETED: "no picture kept" };
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

export class History {
  #before = null;
  #search = "";

  constructor({ list, empty, more, search, onProblem }) {
    Object.assign(this, { list, empty, more, onProblem });
    more.addEventListener("click", () => this.#load());
    let waiting;
    search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        this.#search = search.value.trim();
        this.reload();
      }, 200);
    });
  }

  reload() {
    this.#before = null;
    return this.#load(true);
  }

  async #load(fresh = false) {
    const query = { limit: 24, ...(this.#search && { search: this.#search }), ...(!fresh && this.#before && { before: this.#before }) };
    let page;
    try {
      page = await requests(query);
    } catch (problem) {
      this.onProblem(problem);
      return;
    }
    const entries = page.requests.map(entry);
    if (fresh) this.list.replaceChildren(...entries);
    else this.list.append(...entries);
    this.#before = page.before;
    this.more.hidden = page.before === null;
    this.empty.hidden = this.list.children.length > 0;
    this.empty.textContent = this.#search ? "Nothing found." : "Your edits will appear here.";
  }
}

function entry(one) {
  const link = element("a", { href: `#r=${one.request_id}` });
  const thumb = element("div", { className: "thumb" });
  if (one.images.length) {
    const image = element("img", { src: one.images[0], alt: "", loading: "lazy", decoding: "async" });
    image.addEventListener("error", () => thumb.replaceChildren("not kept any more"));
    thumb.append(image);
  } else {
    thumb.append(WORDS[one.status] ?? one.status);
  }
  const words = element("span", { className: "words", textContent: one.instruction || "no words" });
  const when = element("span", { className: "when", textContent: since(one.queued_at) });
  link.append(thumb, words, when);
  const item = element("li");
  item.append(link);
  return item;
}

export function since(seconds) {
  const passed = seconds - Date.now() / 1000;
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]])
    if (Math.abs(passed) >= length) return ago.format(Math.round(passed / length), unit);
  return "just now";
}
