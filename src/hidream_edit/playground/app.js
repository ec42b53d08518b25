// The page on which pictures are edited. The request on the stage stands in the address, so a reload finds it again.
import * as api from "./api.js";
import { compare } from "./compare.js";
import { Composer } from "./composer.js";
import { element } from "./fields.js";
import { History } from "./history.js";
import { remember, remembered } from "./memory.js";
import { Problems } from "./problems.js";
import { Result } from "./result.js";
import { Running } from "./running.js";

const $ = (id) => document.getElementById(id);
const CANCELLED = 499;

const problems = new Problems({ onAgain: () => (composer.hasSource ? run() : location.reload()), onKey: askForKey });
const composer = new Composer({ onRun: () => run(), onProblem: (problem) => problems.show(problem) });
const running = new Running();
const result = new Result({
  onUse: (url) => {
    composer.use(url);
    composer.words = "";
    $("instruction").focus();
  },
  onAgain: () => run({ seed: Math.floor(Math.random() * 2 ** 32) }),
  onCopy: copy,
});
const history = new History({
  list: $("history"), empty: $("history-empty"), more: $("more"), search: $("search"), onProblem: (problem) => problems.show(problem),
});
let current = null; // {id, stop} of the request that is being followed

async function run(changes = {}) {
  problems.hide();
  result.hide();
  composer.isBusy = true;
  running.begin("Sending the picture …");
  $("stage").scrollIntoView({ block: "nearest" });
  try {
    const input = { ...(await composer.input()), ...changes };
    const id = await api.submit(input);
    remember(id, { url: input.image_url, input });
    location.hash = `r=${id}`;
  } catch (problem) {
    leave(problem);
  }
}

async function open(id) {
  current?.stop();
  const stopped = new AbortController();
  current = { id, stop: () => stopped.abort() };
  problems.hide();
  result.hide();
  composer.isBusy = true;
  running.begin("Looking …", { canCancel: true });
  const asked = await recalled(id);
  if (asked && !composer.hasSource) composer.use(asked.url, asked.viewable);
  if (asked && !composer.words) composer.words = asked.input.edit_instruction;
  try {
    for await (const status of api.follow(id, stopped.signal)) running.tell(status);
    const output = await api.result(id);
    if (stopped.signal.aborted) return;
    leave();
    result.show(id, output, asked);
  } catch (problem) {
    if (problem.name === "AbortError" || stopped.signal.aborted) return;
    leave(problem.status === CANCELLED ? null : problem);
    $("canvas").replaceChildren(element("p", { className: "waiting", textContent: problem.status === CANCELLED ? "Cancelled." : "No picture came of this." }));
  }
  history.reload();
}

// What this browser remembers of a request, and an address at which its source can be seen.
async function recalled(id) {
  const asked = remembered(id);
  return asked && { ...asked, viewable: await api.viewable(asked.url).catch(() => asked.url) };
}

function leave(problem = null) {
  current = null;
  running.end();
  composer.isBusy = false;
  if (problem) problems.show(problem);
}

function askForKey() {
  $("key").value = api.key.get();
  $("key-dialog").returnValue = "";
  $("key-dialog").showModal();
}

function takeKey() {
  const word = $("key-dialog").returnValue;
  if (!word) return;
  api.key.set(word === "save" ? $("key").value.trim() : "");
  problems.hide();
  arrive();
  history.reload();
}

async function copy(text, told) {
  await navigator.clipboard.writeText(text);
  $("toast").textContent = told;
  $("toast").classList.add("shown");
  setTimeout(() => $("toast").classList.remove("shown"), 1600);
}

async function tellModel() {
  try {
    const { model, status, safety } = await api.about();
    $("model").className = `model ${status === "ready" ? "ready" : "busy"}`;
    $("model").textContent = model ? `${model.name} on ${model.device}${safety === "unchecked" ? "" : `, checked by ${safety}`}` : status;
    if (model) {
      composer.suggest(model.examples);
      composer.describe(await api.inputSchema()); // its defaults are those of the model, so not before there is one
    } else {
      setTimeout(tellModel, 1500);
    }
  } catch {
    $("model").className = "model";
    $("model").textContent = "not reachable";
    setTimeout(tellModel, 4000);
  }
}

function firstRun() {
  const words = "“turn it into a snowy winter day”, a real edit by the small model that ships with this server. Move the edge.";
  const stage = element("div");
  stage.append(
    compare("/playground/sample.jpg", "/playground/sample-edited.jpg"),
    element("p", { className: "caption", textContent: words }),
  );
  $("canvas").replaceChildren(stage);
}

function arrive() {
  const id = new URLSearchParams(location.hash.slice(1)).get("r");
  if (id) open(id);
  else firstRun();
}

$("cancel").addEventListener("click", () => current && api.cancel(current.id).catch((problem) => problems.show(problem)));
$("open-key").addEventListener("click", askForKey);
$("key-dialog").addEventListener("close", takeKey);
window.addEventListener("hashchange", arrive);
arrive();
tellModel();
history.reload();
