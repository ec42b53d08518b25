// Controls made from the schema of the input, so that a new field appears by itself.

const ELSEWHERE = new Set(["edit_instruction", "image_url", "sync_mode"]);
const LONG_TEXT = new Set(["target_image_description", "negative_prompt"]);

export class Fields {
  constructor(place, schema) {
    this.controls = new Map();
    const order = schema["x-fal-order-properties"] ?? Object.keys(schema.properties);
    for (const name of order) if (!ELSEWHERE.has(name)) place.append(this.#field(name, schema.properties[name]));
  }

  // What differs from the defaults; the server knows those better.
  values() {
    const given = {};
    for (const [name, { read, standard }] of this.controls) {
      const value = read();
      if (value !== undefined && value !== (standard ?? "")) given[name] = value;
    }
    return given;
  }

  set(name, value) {
    this.controls.get(name)?.write(value);
  }

  #field(name, schema) {
    const box = element("div", { className: "field" });
    const id = `field-${name}`;
    const help = element("small", { id: `${id}-help`, textContent: schema.description ?? "" });
    const label = element("label", { htmlFor: id, textContent: title(name) });
    const [control, read, write] = this.#control(name, schema, id, label);
    control.id = id;
    control.setAttribute("aria-describedby", help.id);
    this.controls.set(name, { read, write, standard: schema.default });
    if (schema.type === "boolean") {
      box.classList.add("check");
      box.append(control, label, help);
    } else {
      box.append(label, control, help);
    }
    return box;
  }

  #control(name, schema, id, label) {
    if (schema.enum) {
      const select = element("select");
      for (const value of schema.enum) select.append(element("option", { value, textContent: value }));
      select.value = schema.default ?? schema.enum[0];
      return [select, () => select.value, (value) => (select.value = value)];
    }
    if (schema.type === "boolean") {
      const box = element("input", { type: "checkbox", checked: Boolean(schema.default) });
      return [box, () => box.checked, (value) => (box.checked = value)];
    }
    if (schema.type === "string") {
      const text = element(LONG_TEXT.has(name) ? "textarea" : "input", { value: schema.default ?? "" });
      return [text, () => text.value, (value) => (text.value = value)];
    }
    const isRange = schema.default !== undefined && schema.maximum - schema.minimum <= 1000;
    return isRange ? range(schema, id, label) : number(schema);
  }
}

function range(schema, id, label) {
  const step = schema.type === "integer" ? 1 : 0.1;
  const slider = element("input", { type: "range", min: schema.minimum, max: schema.maximum, step, value: schema.default });
  const shown = element("output", { htmlFor: id, textContent: schema.default });
  label.append(shown);
  slider.addEventListener("input", () => (shown.textContent = slider.value));
  const write = (value) => {
    slider.value = value;
    shown.textContent = value;
  };
  return [slider, () => Number(slider.value), write];
}

function number(schema) {
  const box = element("input", { type: "text", inputMode: "numeric", pattern: "[0-9]*", placeholder: schema.default ?? "random" });
  const read = () => (box.value.trim() === "" ? undefined : Number(box.value));
  return [box, read, (value) => (box.value = value ?? "")];
}

const title = (name) => name.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase());
export const element = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
