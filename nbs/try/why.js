// The explorer without Python: refcolor.app.explorer's `Explorer`, with the same explorer.js.

import explorer from "./explorer.js";
import { Model, Refusal, element, fetched } from "./model.js";
import { MAX_BYTES, cellMeans, decode, hintMask, linesOf, multiplied, referenceOf,
         pageColours, png, toImage, toTensor, viewOf } from "./pictures.js";

const ABLATIONS = ["none", "another reference", "blank reference", "permuted positions",
                   "fusion off"];
const limited = (v) => Math.max(-1, Math.min(1, v));
const bytesOf = (x) => new Uint8Array(x.buffer);

// --- pictures to choose from

export async function galleryChoice(role, entry) {        // entry: of gallery.json
  const bytes = await fetched(entry.file), image = await decode(bytes, entry.name);
  if (role === "sketch") image.planes.length = 1;
  return { ...entry, bytes, pixels: toTensor(image), square: image };
}
export async function uploadChoice(role, bytes, name, side) {
  const file = await decode(bytes, name), lines = role === "sketch" ? linesOf(file, name) : null;
  const { notes, ...image } = lines ? file : referenceOf(file, name);
  const view = viewOf(lines ?? image, side);
  return { name, notes, lines, view, square: view.square, pixels: toTensor(view.square),
           bytes: await png(view.square) };
}
export async function fullSize(fake, choice, side) {      // with lines as sharp as they were drawn
  let { lines, view } = choice;
  if (!lines) {
    lines = await decode(await fetched(choice.large), choice.name);
    lines.planes.length = 1;
    const whole = [0, 0, lines.w, lines.h];
    view = { square: choice.square, figure: whole, box: [0, 0, side, side] };
  }
  return multiplied(pageColours(fake, lines, view), lines);
}

// --- what `refcolor.attention.look` does besides the network

function moved(x, order, side) {                          // cells of a picture in another order
  const p = Math.sqrt(order.length), unit = side / p, result = new Float32Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const c = Math.floor(i / side / side), y = Math.floor(i / side) % side, column = i % side;
    const from = order[Math.floor(y / unit) * p + Math.floor(column / unit)];
    const row = Math.floor(from / p) * unit + y % unit;
    result[i] = x[(c * side + row) * side + from % p * unit + column % unit];
  }
  return result;
}
function cellColours(x, side, p) {                        // (p², 3), from 0 to 255
  const n = side * side, grey = x.length === n, levels = x.map((v) => (limited(v) + 1) * 127.5);
  const means = [0, 1, 2].map((c) => cellMeans(levels.subarray(grey ? 0 : c * n), side, p));
  const at = (_, i) => means[i % 3][Math.floor(i / 3)];
  return bytesOf(Float32Array.from({ length: 3 * p * p }, at));
}
async function look(run, gallery, { sketch, reference }, { temperature, ablation, hints }) {
  const { size, positions, order } = gallery, n = positions ** 2;
  if (ablation === "blank reference") reference = new Float32Array(reference.length).fill(1);
  const mask = hints.length ? hintMask(hints, sketch, [reference], size, positions) : undefined;
  const weight = +(ablation !== "fusion off");
  let { fake, logits } = await run(sketch, [reference], { mask, temperature, weight });
  if (ablation === "permuted positions") {                // attention itself knows no order
    const before = logits;
    logits = before.map((_, i) => before[i - i % n + order[i % n]]);
    reference = moved(reference, order, size);
  }
  return { sketch, reference, fake, logits };
}

// --- the page: galleries, controls, view

function controls(view, update) {
  const slider = (name, attributes, show, change) => {
    const input = element("input", { type: "range", "aria-label": name, ...attributes });
    const value = element("output");
    const tell = () => { value.textContent = show(+input.value); change(+input.value); };
    input.addEventListener("input", tell);
    value.textContent = show(+input.value);
    return element("label", {}, `${name} `, input, " ", value);
  };
  const hot = (v) => { view.set("temperature", 10 ** v); update(); };
  const heat = slider("temperature", { min: -1, max: 1.5, step: 0.05, value: 0 },
                      (v) => (10 ** v).toFixed(2), hot);
  const lines = slider("lines", { min: 0, max: 20, step: 1, value: 5 }, String,
                       (v) => view.set("k", v));
  const ablation = element("select", { "aria-label": "ablation" },
                           ...ABLATIONS.map((name) => element("option", {}, name)));
  ablation.addEventListener("change", update);
  const entropy = element("input", { type: "checkbox" });
  entropy.addEventListener("change", () => view.set("entropy", entropy.checked));
  const box = element("div", { class: "rc-controls" }, heat, lines,
                      element("label", {}, "ablation ", ablation),
                      element("label", {}, entropy, " map of entropy"));
  return { box, ablation };
}

export async function showWhy(el, gallery, run) {
  const { size, positions } = gallery, choices = {}, galleries = {};
  let hints = [], step = 0, wanted = 0, seen;
  const cell = positions * positions / 2 + positions / 2;
  const view = new Model({ temperature: 1, k: 5, entropy: false, on: "sketch", pinned: false, cell,
                           heat: gallery.heat }, receive);
  const { box, ablation } = controls(view, update);
  const chosen = (role) => {
    const swap = role === "reference" && ablation.value === "another reference";
    return choices[role][(galleries[role].get("index") + swap) % choices[role].length];
  };
  async function update() {                               // only the last of several is shown
    const turn = ++wanted, temperature = view.get("temperature");
    const options = { temperature, ablation: ablation.value, hints };
    const sketch = chosen("sketch"), reference = chosen("reference");
    const pair = { sketch: sketch.pixels, reference: reference.pixels };
    const now = await look(run, gallery, pair, options);
    const truth = gallery.truths[`${sketch.file}|${reference.file}`];
    const answer = truth ? await fetched(truth) : new Uint8Array();
    if (truth) now.truth = toTensor(await decode(answer, "truth"));
    const pictures = { truth: answer, sketch: sketch.bytes }, colours = { truth: answer };
    for (const name of ["fake", "reference"]) pictures[name] = await png(toImage(now[name], size));
    for (const [name, x] of Object.entries(now))
      if (pictures[name]) colours[name] = cellColours(x, size, positions);
    if (turn !== wanted) return;
    seen = now;
    const alt = { sketch: sketch.name, truth: "true answer",
                  reference: `${reference.name}, ablation ${options.ablation}`,
                  fake: `output for ${sketch.name} with ${reference.name}` };
    const attends = options.ablation !== "fusion off", logits = bytesOf(now.logits);
    view.set("scene", { positions, step: ++step, hints: options.hints.length, alt, pictures,
                        colours, logits, attends });
  }
  const centre = (cell) => [cell % positions, Math.floor(cell / positions)]
    .map((v) => (v * 2 + 1) / positions - 1);
  async function receive({ kind, here: cell, there }) {
    if (kind === "hint") {
      if (ablation.value === "permuted positions") there = gallery.order[there];
      hints = [...hints, [...centre(cell), ...centre(there), 0]];
    } else if (kind === "forget") hints = [];
    else if (kind === "download") {
      const file = await png(await fullSize(seen.fake, chosen("sketch"), size));
      return view.tell("msg:custom", { kind: "file", name: "colorized.png" }, [file]);
    }
    await update();
  }
  async function take(role, { name }, [buffer]) {
    const model = galleries[role];
    model.set("message", "");
    try {
      const choice = await uploadChoice(role, new Uint8Array(buffer), name, size);
      choices[role].push(choice);
      model.set({ names: [...model.get("names"), name],
                  pictures: [...model.get("pictures"), choice.bytes] });
      model.set("index", choices[role].length - 1);
      model.set("message", choice.notes.join("; "));
    } catch (error) {
      const said = error instanceof Refusal ? error.message : `${name} cannot be used here`;
      model.set("message", `${role}: ${said}`);
    }
  }
  for (const role of ["sketch", "reference"]) {
    choices[role] = await Promise.all(gallery[role].map((entry) => galleryChoice(role, entry)));
    const [names, pictures] = ["name", "bytes"].map((key) => choices[role].map((c) => c[key]));
    const traits = { role, names, pictures, index: 0, message: "", max_bytes: MAX_BYTES };
    galleries[role] = new Model(traits, (content, buffers) => take(role, content, buffers));
    galleries[role].on("change:index", () => { hints = []; update(); });
  }
  await update();
  for (const model of Object.values(galleries)) {
    const strip = element("div");
    el.append(strip);
    explorer.render({ model, el: strip });
  }
  const pictures = element("div");
  el.append(box, pictures);
  explorer.render({ model: view, el: pictures });
}
