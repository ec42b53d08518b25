// The owner's page: the line, the runners, keys, requests and webhooks, every few seconds.
import * as api from "./api.js";
import { element } from "./fields.js";
import { since } from "./history.js";

const SECONDS = 3;
const $ = (id) => document.getElementById(id);

function table(place, columns, rows, empty) {
  if (!rows.length) return place.replaceChildren(element("p", { className: "empty", textContent: empty }));
  const head = element("tr");
  for (const name of Object.keys(columns)) head.append(element("th", { textContent: name, scope: "col" }));
  const body = element("tbody");
  for (const row of rows) {
    const line = element("tr");
    for (const make of Object.values(columns)) {
      const cell = element("td");
      cell.append(make(row) ?? "");
      line.append(cell);
    }
    body.append(line);
  }
  const top = element("thead");
  top.append(head);
  const made = element("table");
  made.append(top, body);
  place.replaceChildren(made);
}

const GOOD = new Set(["ready", "completed", "delivered"]);
const POOR = new Set(["failed", "runner dead", "revoked"]);
const word = (text) => element("span", { className: `word ${GOOD.has(text) ? "good" : POOR.has(text) ? "poor" : ""}`, textContent: text });
const short = (id) => element("code", { textContent: id?.slice(0, 13) ?? "", title: id ?? "" });
const memory = (bytes) => (bytes ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : "");
const seconds = (job) => (job.finished_at && job.started_at ? `${(job.finished_at - job.started_at).toFixed(1)} s` : "");

function show(seen) {
  const failed = seen.requests.filter((job) => job.state === "failed").length;
  const tiles = {
    "waiting": seen.waiting,
    "running": seen.requests.filter((job) => job.state === "running").length,
    "runners": seen.runners.length,
    "failed, of the last requests": failed,
    "webhooks given up": seen.deliveries.filter((one) => one.state === "failed").length,
  };
  $("status").textContent = seen.status;
  $("status").className = `model ${seen.status === "ready" ? "ready" : "busy"}`;
  $("tiles").replaceChildren(
    ...Object.entries(tiles).map(([name, number]) => {
      const tile = element("div", { className: "tile" });
      tile.append(element("div", { className: "number", textContent: number }), element("div", { className: "name", textContent: name }));
      return tile;
    }),
  );
  table($("runners"), {
    State: (one) => word(one.state), Model: (one) => one.model, Device: (one) => one.device, Memory: (one) => memory(one.memory_bytes),
    "Works on": (one) => (one.request_id ? short(one.request_id) : "nothing"), "Last heard of": (one) => `${one.seen_seconds_ago} s ago`,
  }, seen.runners, "No runner is here. Start one with hidream-edit runner.");
  table($("requests"), {
    Request: (one) => short(one.request_id), State: (one) => word(one.state), Error: (one) => one.error, Caller: (one) => one.caller,
    Came: (one) => since(one.queued_at), Took: seconds, Attempt: (one) => String(one.attempt),
  }, seen.requests, "No requests yet.");
  table($("deliveries"), {
    Request: (one) => short(one.request_id), State: (one) => word(one.state), To: (one) => one.host, Tries: (one) => String(one.attempt),
    "Last problem": (one) => one.error, "": redeliverButton,
  }, seen.deliveries, "Nobody asked to be told.");
  table($("keys"), {
    Name: (one) => one.name, Key: (one) => short(one.id), Scope: (one) => one.scope, Made: (one) => since(one.created_at),
    State: (one) => word(one.revoked_at ? "revoked" : "valid"),
  }, seen.keys, "No keys: everybody who can reach this server may use it.");
}

function redeliverButton(delivery) {
  const button = element("button", { type: "button", className: "button", textContent: "Deliver again" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    await api.redeliver(delivery.request_id).catch(complain);
    look();
  });
  return button;
}

function complain(problem) {
  const needsKey = problem.status === 401 || problem.status === 403;
  $("problem").replaceChildren(
    element("strong", { textContent: needsKey ? "This page asks for a key with the scope admin." : "The server does not answer." }),
    element("span", { textContent: needsKey ? "Made with hidream-edit keys create NAME --scope admin." : problem.message }),
  );
  if (needsKey) {
    const button = element("button", { type: "button", className: "button", textContent: "Enter a key" });
    button.addEventListener("click", () => $("key-dialog").showModal());
    $("problem").append(button);
  }
  $("problem").hidden = false;
}

async function look() {
  try {
    show(await api.overview());
    $("problem").hidden = true;
  } catch (problem) {
    complain(problem);
  }
}

$("open-key").addEventListener("click", () => $("key-dialog").showModal());
$("key-dialog").addEventListener("close", () => {
  if ($("key-dialog").returnValue === "save") api.key.set($("key").value.trim());
  if ($("key-dialog").returnValue === "forget") api.key.set("");
  look();
});
look();
setInterval(() => document.hidden || look(), SECONDS * 1000);
