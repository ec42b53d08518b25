// What this browser remembers of its requests: where the source lies, and what was asked. A reload finds both.
const NAME = "hidream-edit sources";
const KEPT = 200;

const all = () => JSON.parse(localStorage.getItem(NAME) ?? "{}");

export const remembered = (id) => all()[id] ?? null;

export function remember(id, what) {
  const kept = Object.entries({ ...all(), [id]: what }).slice(-KEPT);
  localStorage.setItem(NAME, JSON.stringify(Object.fromEntries(kept)));
}
