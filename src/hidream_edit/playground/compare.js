// <before-after>: two pictures of one scene with an edge between them that can be moved, and a magnifier.
import { element } from "./fields.js";

const ZOOMS = [1, 1.5, 2, 3, 4];

class BeforeAfter extends HTMLElement {
  #zoom = 0;

  show(before, after, { beforeLabel = "before", afterLabel = "after" } = {}) {
    const both = element("div", { className: "both" });
    both.append(
      element("img", { src: before, alt: "Before the edit", draggable: false }),
      element("img", { src: after, alt: "After the edit", className: "after", draggable: false }),
      element("div", { className: "edge" }),
    );
    const slider = element("input", { type: "range", min: 0, max: 100, value: 50, step: 0.5 });
    slider.setAttribute("aria-label", "How much of the picture before the edit is shown");
    slider.addEventListener("input", () => this.style.setProperty("--at", `${slider.value}%`));
    both.append(slider);
    const [, edited] = both.children;
    edited.addEventListener("load", () => this.style.setProperty("--aspect", edited.naturalWidth / edited.naturalHeight));
    const scroll = element("div", { className: "scroll" });
    scroll.append(both);
    const zoom = element("div", { className: "zoom" });
    zoom.append(this.#button("−", "Smaller", -1), this.#button("+", "Larger", 1));
    this.replaceChildren(
      scroll,
      element("span", { className: "tag left", textContent: beforeLabel }),
      element("span", { className: "tag right", textContent: afterLabel }),
      zoom,
    );
    return this;
  }

  #button(text, label, by) {
    const button = element("button", { type: "button", textContent: text });
    button.setAttribute("aria-label", label);
    button.addEventListener("click", () => {
      this.#zoom = Math.min(ZOOMS.length - 1, Math.max(0, this.#zoom + by));
      this.style.setProperty("--zoom", ZOOMS[this.#zoom]);
    });
    return button;
  }
}

customElements.define("before-after", BeforeAfter);

export const compare = (before, after, labels) => document.createElement("before-after").show(before, after, labels);
