// What went wrong, and what to do about it.
import { element } from "./fields.js";

const box = document.getElementById("problem");

export class Problems {
  constructor({ onAgain, onKey }) {
    Object.assign(this, { onAgain, onKey });
  }

  hide() {
    box.hidden = true;
  }

  show(problem) {
    const [what, doThis, action] = this.#advice(problem);
    box.replaceChildren(element("strong", { textContent: what }), element("span", { textContent: doThis }));
    if (action) {
      const button = element("button", { type: "button", className: "button", textContent: action.text });
      button.addEventListener("click", action.do);
      box.append(button);
    }
    box.hidden = false;
  }

  #advice(problem) {
    const again = { text: "Try again", do: this.onAgain };
    switch (problem.status) {
      case undefined:
        return [problem.message, "Try another one.", null];
      case 0:
        return ["The server cannot be reached.", "Is it still running? Look at the terminal that it was started in.", again];
      case 401:
        return ["This server asks for a key.", "Its owner makes one with hidream-edit keys create NAME.", { text: "Enter a key", do: this.onKey }];
      case 404:
        return ["There is no such request.", "It was deleted, or it belongs to another key.", null];
      case 413:
        return ["That is too large.", problem.message, null];
      case 422:
        return ["The server did not take this.", problem.message, null];
      case 429:
        return ["That is more than your key allows now.", problem.retryAfter ? `Try again in ${problem.retryAfter} seconds.` : problem.message, again];
      default:
        return [problem.status >= 500 ? "The edit failed." : "The server refused.", problem.message, again];
    }
  }
}
