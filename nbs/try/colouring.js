// The Colour face without Python: refcolor.app.colouring's `Colouring`, soft colours only.

import colour from "./colour.js";
import { Model, Refusal, fetched } from "./model.js";
import { MAX_BYTES, decode, hintMask, linesOf, multiplied, pageColours, png, pointIn,
         referenceOf, toTensor, viewOf } from "./pictures.js";

const MAX_REFERENCES = 8, MAX_HINTS = 64, MAX_UNDO = 64;
const inside = (...point) => {
  if (!point.every((v) => Math.abs(v) <= 1)) throw new Refusal("that point is outside its picture");
};

// --- what follows from files, made once for each

const known = new WeakMap();
function once(file, make) {                               // file: { name, bytes }
  if (!known.has(file)) known.set(file, make(file));
  return known.get(file);
}
const drawing = (size) => (file) => once(file, async ({ name, bytes }) => {
  const image = await decode(bytes, name), lines = linesOf(image, name), view = viewOf(lines, size);
  return { lines, view, notes: image.notes, pixels: toTensor(view.square), ink: await png(lines) };
});
const reference = (size) => (file) => once(file, async ({ name, bytes }) => {
  const image = referenceOf(await decode(bytes, name), name), view = viewOf(image, size);
  return { view, notes: image.notes, pixels: toTensor(view.square), shown: bytes };
});

// --- what a person does: each action makes the next state, or refuses

const ACTIONS = {
  sketch: (_, { name }, [bytes]) => ({ sketch: { name, bytes: new Uint8Array(bytes) }, hints: [] }),
  reference({ references, hints }, { name, k }, [bytes]) {
    const file = { name, bytes: new Uint8Array(bytes) };
    if (Number.isInteger(k))                                 // in place of that one
      return { references: references.map((r, i) => i === k ? file : r),
               hints: hints.filter((hint) => hint.k !== k) };
    if (references.length >= MAX_REFERENCES)
      throw new Refusal(`there are ${MAX_REFERENCES} references, as many as can be; remove one`);
    return { references: [...references, file] };
  },
  drop({ references, hints }, { k }) {
    const left = hints.filter((hint) => hint.k !== k);
    return { references: references.filter((_, i) => i !== k),
             hints: left.map((hint) => ({ ...hint, k: hint.k - (hint.k > k) })) };
  },
  look({ hints, numbered }, { x, y, u, v, k }) {
    inside(x, y, u, v);
    if (hints.length >= MAX_HINTS)
      throw new Refusal(`there are ${MAX_HINTS} hints, as many as can be; remove one first`);
    const hint = { n: numbered + 1, kind: "look", x, y, u, v, k, colour: null };
    return { hints: [...hints, hint], numbered: hint.n };
  },
  remove: ({ hints }, { n }) => ({ hints: hints.filter((hint) => hint.n !== n) }),
};

export async function showColour(el, gallery, run) {
  const { size, positions } = gallery, drawn = drawing(size), seen = reference(size);
  const load = (key) => async ({ name, [key]: file }) => ({ name, bytes: await fetched(file) });
  const files = { sketch: await Promise.all(gallery.sketch.map(load("large"))),
                  reference: await Promise.all(gallery.reference.map(load("file"))) };
  const offered = Object.fromEntries(Object.entries(files).map(([role, list]) =>
    [role, list.map(({ name, bytes }) => ({ name, png: bytes }))]));
  let state = { sketch: files.sketch[0], references: [files.reference[0]], hints: [], numbered: 0 };
  let past = [], future = [], step = 0, last = Promise.resolve(), colours;
  const limits = `at most ${MAX_BYTES / 1e6} MB; it does not leave this page`;
  const traits = { scene: {}, gallery: offered, labels: new Uint8Array(), limits,
                   max_bytes: MAX_BYTES };
  const model = new Model(traits, (...message) => { last = last.then(() => receive(...message)); });
  async function made(next) {                             // everything that is shown of a state
    const { lines, view, notes, pixels, ink } = await drawn(next.sketch);
    const there = await Promise.all(next.references.map(seen)), references = there.map((r, k) =>
      ({ name: next.references[k].name, png: r.shown, notes: r.notes }));
    let soft = null;
    if (there.length) {
      const pictures = there.map((r) => r.pixels), hints = next.hints.map((h) =>
        [...pointIn(view, h.x, h.y), ...pointIn(there[h.k].view, h.u, h.v), h.k]);
      const mask = hints.length ? hintMask(hints, pixels, pictures, size, positions) : undefined;
      soft = pageColours((await run(pixels, pictures, { mask })).fake, lines, view);
    }
    const bytes = soft ? await png(soft) : new Uint8Array();
    return { soft, bytes, lines, ink, references, notes };
  }
  function show(next, now) {
    [state, colours] = [next, now];
    const can = { flat: false, ora: false, extract: false, look: Boolean(now.soft),
                  undo: past.length > 0, redo: future.length > 0 };
    model.set({ ink: now.ink, soft: now.bytes, references: now.references });
    model.set("scene", { step: ++step, width: now.lines.w, height: now.lines.h, flat: false, can,
                         name: state.sketch.name, notes: now.notes, regions: [], palette: [],
                         hints: state.hints });
  }
  async function receive(content, buffers) {
    const { kind, role = kind } = content;
    try {
      if (kind === "save") return await save();
      if (kind === "undo" || kind === "redo") {
        const [from, to] = kind === "undo" ? [past, future] : [future, past];
        if (!from.length) throw new Refusal(`there is nothing to ${kind}`);
        const next = from.pop();
        to.push(state);
        return show(next, await made(next));
      }
      const file = kind === "choose" && files[role][content.index];
      const act = file ? ACTIONS[role] : ACTIONS[kind];
      if (!act) throw new Refusal("flat colours need the library");
      const given = file ? [file.bytes] : buffers;
      const next = { ...state, ...act(state, { ...content, ...file }, given) };
      const now = await made(next);
      past = [...past, state].slice(-MAX_UNDO);
      future = [];
      show(next, now);
    } catch (error) {
      const text = error instanceof Refusal ? error.message : "this cannot be done here";
      model.tell("msg:custom", { kind: "say", role, text });
    }
  }
  async function save() {
    if (!colours.soft) throw new Refusal("there is no reference yet; add one first");
    const name = `${state.sketch.name.replace(/\.\w+$/, "")}_coloured.png`;
    const file = await png(multiplied(colours.soft, colours.lines));
    model.tell("msg:custom", { kind: "file", name }, [file]);
  }
  show(state, await made(state));
  colour.render({ model, el });
}
