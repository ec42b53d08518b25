// What is shown while a request waits and runs.
import { element } from "./fields.js";

const $ = (id) => document.getElementById(id);

export const duration = (seconds) =>
  seconds < 90 ? `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;

export class Running {
  #pace = new Pace();

  begin(text, { canCancel = false } = {}) {
    this.#pace = new Pace();
    $("log").textContent = "";
    $("canvas").replaceChildren(element("p", { className: "waiting", textContent: "Your picture will appear here." }));
    this.say(text, { canCancel });
  }

  say(text, { canCancel = true } = {}) {
    $("progress").hidden = false;
    $("cancel").hidden = !canCancel;
    meter(null);
    $("progress-text").textContent = text;
  }

  end() {
    $("progress").hidden = true;
  }

  tell({ status, queue_position: position, logs, preview }) {
    for (const line of logs ?? []) {
      log(line);
      this.#pace.take(line.labels);
    }
    if (status === "IN_QUEUE") this.say(position ? `Waiting: ${position} before you` : "Next in line …");
    if (status === "IN_PROGRESS") this.#progress();
    if (preview) show(preview);
  }

  #progress() {
    const { done, of, left } = this.#pace;
    if (!of) return this.say("Starting …");
    const time = left === null ? "" : left < 1 ? ", nearly done" : `, about ${duration(left)} left`;
    this.say(`Step ${done} of ${of}${time}`);
    meter(done / of);
  }
}

// How long the steps take, and what that leaves.
class Pace {
  done = 0;
  of = 0;
  #seconds = 0;

  take({ step, of, seconds } = {}) {
    if (!step) return;
    this.done = Number(step);
    this.of = Number(of);
    if (this.done > 1) this.#seconds += Number(seconds); // the first one also warms up
  }

  get left() {
    return this.done > 1 ? (this.#seconds / (this.done - 1)) * (this.of - this.done) : null;
  }
}

function meter(share) {
  $("meter").classList.toggle("unknown", share === null);
  $("meter-fill").style.width = share === null ? "" : `${share * 100}%`;
  if (share === null) $("meter").removeAttribute("aria-valuenow");
  else $("meter").setAttribute("aria-valuenow", Math.round(share * 100));
}

function show(preview) {
  const image = $("canvas").querySelector(".preview") ?? element("img", { className: "preview", alt: "The picture so far" });
  image.src = preview;
  if (!image.isConnected) $("canvas").replaceChildren(image);
}

function log({ timestamp, level, message }) {
  const time = new Date(timestamp).toLocaleTimeString();
  $("log").textContent += `${time}  ${level === "INFO" ? "" : `${level}: `}${message}\n`;
  $("log").scrollTop = $("log").scrollHeight;
}
