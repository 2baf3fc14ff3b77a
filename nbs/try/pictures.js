// What refcolor.framing, .surroundings, .colorize and .flats do, as far as a page needs it.
//
// Not done here, `refcolor colorize` does it: light lines on dark paper, scans with a frame, lines
// drawn from a photograph, flat regions, layers; discs, cards, bars and line art beside a
// reference's figure, construction lines, signatures far away; and saying what is hatched, has few
// pixels, is not upright, or took colours through the paper. A picture is { w, h, planes }: one
// plane is grey, three are colours, from 0 to 255. The network's pictures are Float32Arrays
// (c, s, s) in [-1, 1].

import { Refusal } from "./model.js";

export const MAX_BYTES = 8e6, KEEP = 2048;                // bytes of a file, pixels of a side

const clip = (v, low, high) => Math.max(low, Math.min(high, v));
const byte = (v) => clip(Math.round(v), 0, 255);
const halfEven = (v) => Math.floor(v) + (v % 1 + Math.floor(v) % 2 / 1e9 > 0.5);    // as NumPy's
function filled(x, f) {                                   // quicker than `from`
  for (let i = 0; i < x.length; i++) x[i] = f(i);
  return x;
}
const cells = (n, f) => filled(new Uint8Array(n), f);
const picture = (w, h, planes) => ({ w, h, planes });
function map(image, f) { return picture(image.w, image.h, image.planes.map(f)); }
function median(values) {
  const sorted = Float32Array.from(values).sort(), m = sorted.length >> 1;
  return sorted.length % 2 ? sorted[m] : (sorted[m - 1] + sorted[m]) / 2;
}
function crop({ w, h, planes }, [left, top, right, bottom]) {
  const width = right - left, height = bottom - top;
  return picture(width, height, planes.map((plane) => {
    const part = new plane.constructor(width * height);
    for (let y = 0; y < height; y++)
      part.set(plane.subarray((top + y) * w + left, (top + y) * w + right), y * width);
    return part;
  }));
}
function paste(page, image, left, top) {
  image.planes.forEach((plane, c) => {
    for (let y = 0; y < image.h; y++)
      page.planes[c].set(plane.subarray(y * image.w, (y + 1) * image.w), (top + y) * page.w + left);
  });
}

// --- files in, files out

const canvasOf = (w, h) => Object.assign(document.createElement("canvas"), { width: w, height: h });
function pixelsOf(drawable, w, h) {                       // on white, where it is transparent
  const context = canvasOf(w, h).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, w, h);
  context.drawImage(drawable, 0, 0, w, h);
  const { data } = context.getImageData(0, 0, w, h);
  return picture(w, h, [0, 1, 2].map((c) => cells(w * h, (i) => data[4 * i + c])));
}
export async function decode(bytes, name) {               // a picture of three planes, with notes
  const url = URL.createObjectURL(new Blob([bytes])), image = new Image(), notes = [];
  try {
    await new Promise((onload, onerror) => Object.assign(image, { onload, onerror, src: url }));
    const { naturalWidth: w, naturalHeight: h } = image;
    if (w * h > 2 ** 26)
      throw new Refusal(`${name} has ${w} × ${h} pixels, more than 67 million; make it smaller`);
    const shrink = Math.min(1, KEEP / Math.max(w, h));
    if (shrink < 1) notes.push(`${name} is taken at ${KEEP} pixels`);
    const [wide, high] = [w, h].map((v) => Math.max(1, Math.round(v * shrink)));
    const whole = await createImageBitmap(image);          // refuses what is damaged
    return { ...pixelsOf(whole, wide, high), notes };
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(`cannot read ${name}: not an image, or damaged; ` +
                      "give a PNG, JPEG or WebP file");
  } finally { URL.revokeObjectURL(url); }
}
export function canvas({ w, h, planes }) {
  const result = canvasOf(w, h), context = result.getContext("2d");
  const out = context.createImageData(w, h);
  const [r, g, b] = planes.length > 1 ? planes : [planes[0], planes[0], planes[0]];
  for (let i = 0; i < w * h; i++) out.data.set([r[i], g[i], b[i], 255], 4 * i);
  context.putImageData(out, 0, 0);
  return result;
}
export async function png(image) {
  const blob = await new Promise((done) => canvas(image).toBlob(done, "image/png"));
  return new Uint8Array(await blob.arrayBuffer());
}
export function toTensor({ w, h, planes }) {
  const x = new Float32Array(planes.length * w * h);
  planes.forEach((plane, c) => plane.forEach((v, i) => { x[c * w * h + i] = v / 127.5 - 1; }));
  return x;
}
export function toImage(x, side) {
  const n = side * side;
  return picture(side, side, Array.from({ length: x.length / n }, (_, c) =>
    Uint8Array.from(x.subarray(c * n, (c + 1) * n), (v) => byte((clip(v, -1, 1) + 1) * 127.5))));
}

// --- sizes, as Pillow changes them: across, then down (a high picture that shrinks: down first),
// each time to whole levels

const sinc = (x) => x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1;
const KERNELS = {                                         // how far one reaches, and what it weighs
  box: [0.5, (x) => +(x > -0.5 && x <= 0.5)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => { x = Math.abs(x); return x < 1 ? (1.5 * x - 2.5) * x * x + 1 :
    x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0; }],
  lanczos: [3, (x) => Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0],
};
function weightsOf(kernel, n, size, span) {               // of each new pixel: the first, and all
  const [reach, weigh] = KERNELS[kernel], scale = span / size, wide = Math.max(1, scale);
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * scale, low = Math.max(0, Math.trunc(centre - reach * wide + 0.5));
    const high = Math.min(n, Math.trunc(centre + reach * wide + 0.5));
    const w = Array.from({ length: high - low }, (_, j) => weigh((low + j - centre + 0.5) / wide));
    const sum = w.reduce((a, b) => a + b, 0);
    return [low, w.map((v) => v / sum)];
  });
}
function along(plane, w, h, size, kernel, span, whole) {  // rows to another length, and turned
  const result = new plane.constructor(size * h), weights = weightsOf(kernel, w, size, span);
  for (let y = 0; y < h; y++) weights.forEach(([low, k], x) => {
    let sum = 0;
    for (let j = 0; j < k.length; j++) sum += plane[y * w + low + j] * k[j];
    result[x * h + y] = whole ? byte(sum) : sum;
  });
  return result;
}
function turned(plane, w, h) {                           // rows become columns
  const result = new plane.constructor(w * h);
  for (let i = 0; i < w * h; i++) result[i % w * h + Math.floor(i / w)] = plane[i];
  return result;
}
function resize({ w, h, planes }, width, height, kernel, spans = [w, h]) {
  if (w === width && h === height) return picture(w, h, planes);
  return picture(width, height, planes.map((plane) => {
    const whole = plane instanceof Uint8Array;
    const across = (x, h) => along(x, w, h, width, kernel, spans[0], whole);
    const down = (x, w) => along(x, h, w, height, kernel, spans[1], whole);
    if (h <= 2 * w || height > h) return down(across(plane, h), width);
    return turned(across(down(turned(plane, w, h), w), height), height, width);
  }));
}
function reduced({ w, h, planes }, a, b) {                // means of a × b pixels
  const wide = Math.ceil(w / a), high = Math.ceil(h / b);
  return picture(wide, high, planes.map((plane) => cells(wide * high, (i) => {
    const left = i % wide * a, top = Math.floor(i / wide) * b;
    const right = Math.min(w, left + a), bottom = Math.min(h, top + b);
    let sum = 0;
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += plane[y * w + x];
    return byte(sum / (right - left) / (bottom - top));
  })));
}
function thumbnail(image, side) {                  // never larger
  const scale = Math.min(1, side / Math.max(image.w, image.h));
  const [w, h] = [image.w, image.h].map((v) => Math.max(1, Math.round(v * scale)));
  return resize(image, w, h, "box");
}
function letterbox(image, side) {                  // the square, and the box that is filled
  const scale = side / Math.max(image.w, image.h);
  const [w, h] = [image.w, image.h].map((v) => Math.max(1, Math.round(v * scale)));
  const [a, b] = [image.w / w, image.h / h].map((v) => Math.max(1, Math.floor(v / 4)));
  const part = a * b > 1 ? reduced(image, a, b) : image;
  const spans = a * b > 1 ? [image.w / a, image.h / b] : undefined;
  const small = resize(part, w, h, scale < 1 ? "lanczos" : "bicubic", spans);
  const left = (side - w) >> 1, top = (side - h) >> 1;
  const square = picture(side, side, image.planes.map(() => new Uint8Array(side * side).fill(255)));
  paste(square, small, left, top);
  return [square, [left, top, left + w, top + h]];
}

// --- a drawing: white paper, dark ink

function slide(plane, w, h, window, sign) {               // a square window: a row, then a column
  const r = window >> 1, pass = (x, w, h) => {            // 1: most, −1: least
    const result = new Float32Array(w * h);
    for (let y = 0; y < h; y++) for (let i = 0; i < w; i++) {
      const low = y * w + Math.max(0, i - r), high = y * w + Math.min(w, i + r + 1);
      let top = -Infinity;
      for (let j = low; j < high; j++) if (sign * x[j] > top) top = sign * x[j];
      result[i * h + y] = sign * top;
    }
    return result;
  };
  return pass(pass(plane, w, h), h, w);
}
function paperOf(image) {                          // how bright the paper is, place by place
  const small = thumbnail(image, 256), { w, h } = small;
  const window = Math.max(3, (Math.trunc(Math.max(w, h) / 10) >> 1) * 2 + 1);
  const out = window >> 2, wide = w + 2 * out;     // what the sheet's edge cuts goes on
  return map(small, (plane) => {
    const light = Float32Array.from(plane, (v) => v / 255).sort();
    const at = 0.95 * (light.length - 1), i = Math.floor(at);
    const floor = 0.4 * (light[i] + (at - i) * ((light[i + 1] ?? light[i]) - light[i]));
    let x = new Float32Array(wide * (h + 2 * out)).fill(-Infinity);
    plane.forEach((v, k) => { x[(Math.floor(k / w) + out) * wide + k % w + out] = v / 255; });
    x = slide(x, wide, h + 2 * out, window, 1);
    x = slide(x, wide, h + 2 * out, window + 2, -1);
    return plane.map((_, k) => byte(255 * Math.max(
      x[(Math.floor(k / w) + out) * wide + k % w + out], floor, 0.01)));
  });
}
function inkOf(image) {                            // one plane, ink dark on 255
  const paper = paperOf(image), even = paper.planes.every((p) => p.every((v) => v >= 250));
  const light = even ? null : resize(paper, image.w, image.h, "bilinear");
  const dark = new Uint8Array(image.w * image.h).fill(255), counts = new Uint32Array(256);
  image.planes.forEach((plane, c) => plane.forEach((v, i) => {
    if (light) v = halfEven(Math.fround(255 * Math.min(1, Math.fround(v / light.planes[c][i]))));
    if (v < dark[i]) dark[i] = v;
  }));
  for (const v of dark) counts[v]++;
  let black = 0, sum = counts[0];
  while (sum < dark.length / 2000) sum += counts[++black];
  black = Math.min(black, 150);
  const white = even ? 255 : 230;
  return picture(image.w, image.h, [dark.map((v) => byte((v - black) / (white - black) * 255))]);
}
export function linesOf(image, name) {                    // refuses what has no lines
  const lines = inkOf(image), [plane] = lines.planes;
  const low = plane.reduce((a, b) => Math.min(a, b)), high = plane.reduce((a, b) => Math.max(a, b));
  if (low > 200) throw new Refusal(`${name} is blank, there is nothing to colour`);
  if (high < 128) throw new Refusal(`${name} is all dark, there is no drawing in it`);
  const rim = edgesOf(image).map((edge) => median(edge.flatMap((p) => p)));
  if (median(rim) < 100) throw new Refusal(`${name}: dark paper is not turned around here; ` +
                                           "refcolor colorize does that");
  return lines;
}

function colourNote(image, name) {                 // of a reference without colours
  const { planes: [r, g, b] } = thumbnail(crop(image, drawnIn(image)), 256);
  const light = [r, g, b].map((p) => Float32Array.from(p).sort()[Math.floor(0.95 * p.length)]);
  const scale = Math.min(...light) > 180 ? light.map((v) => 255 / v) : [1, 1, 1];     // paper
  const coloured = r.filter((_, i) => {
    const x = [r, g, b].map((p, c) => p[i] * scale[c]);
    return Math.max(...x) - Math.min(...x) > 20;
  });
  return coloured.length < 0.005 * r.length ? [`${name}: black, white and grey only, there are ` +
    "no colours to take; a reference is a coloured picture"] : [];
}

// --- what is drawn, and the network's square of it

function edgesOf({ w, h, planes }) {                      // left, top, right, bottom; of planes
  const row = (y) => planes.map((p) => [...p.subarray(y * w, (y + 1) * w)]);
  const column = (x) => planes.map((p) => Array.from({ length: h }, (_, y) => p[y * w + x]));
  return [column(0), row(0), column(w - 1), row(h - 1)];
}
function bounds(mask, w, h) {                             // of what is true, or null
  let [left, top, right, bottom] = [w, h, 0, 0];
  for (let i = 0; i < w * h; i++) if (mask(i)) {
    const x = i % w, y = Math.floor(i / w);
    left = Math.min(left, x), right = Math.max(right, x + 1);
    top = Math.min(top, y), bottom = Math.max(bottom, y + 1);
  }
  return right ? [left, top, right, bottom] : null;
}
function drawnIn(image) {                          // a box: the figure, a little paper around
  const small = thumbnail(image, 512), { w, h, planes } = small, whole = [0, 0, w, h];
  const colours = edgesOf(small).map((edge) => edge.map((p) => Math.trunc(median(p))));
  const near = (a, b) => a.every((v, c) => Math.abs(v - b[c]) <= 24);
  let figure = whole;
  if (colours.every((c) => near(c, colours[0]))) {        // one paper, all around
    const other = cells(w * h, (i) =>
      +planes.some((p, c) => Math.abs(p[i] - colours[0][c]) > 24));
    const crowd = (i) => {                                // 8 of the 81 pixels around may be dust
      let sum = 0;
      for (let y = -4; y <= 4; y++) for (let x = -4; x <= 4; x++)
        sum += other[clip(Math.floor(i / w) + y, 0, h - 1) * w + clip(i % w + x, 0, w - 1)];
      return sum > 8;
    };
    figure = bounds((i) => other[i] && crowd(i), w, h) ?? whole;
  }
  const length = ([l, t, r, b]) => Math.max(r - l, b - t);
  if (length(figure) >= 0.8 * length(whole)) figure = whole;
  const margin = 0.06 * length(figure), [sx, sy] = [image.w / w, image.h / h];
  const [l, t, r, b] = figure.map((v, i) => i < 2 ? Math.max(0, v - margin) :
                                                     Math.min(whole[i], v + margin));
  return [Math.ceil(l * sx), Math.ceil(t * sy), Math.floor(r * sx), Math.floor(b * sy)];
}
export function viewOf(image, side) {                     // a drawing's thin lines are kept visible
  const figure = drawnIn(image);
  const [square, box] = letterbox(crop(image, figure), side);
  if (image.planes.length === 1) {
    const dark = Array.from(square.planes[0], (v) => 1 - v / 255);
    const least = Math.max(0.03, 0.15 * dark.reduce((a, b) => Math.max(a, b)));
    const darkness = dark.filter((v) => v > least);
    const gain = darkness.length ? 0.45 / median(darkness) : 1;
    const raised = (v) => byte(255 * (1 - clip((1 - v / 255) * gain, 0, 1)));
    if (gain > 1) square.planes[0] = square.planes[0].map(raised);
  }
  return { square, figure, box, w: image.w, h: image.h };
}
export function pointIn(view, x, y) {                     // of the picture -> of the square
  const moved = (v, k) => {
    const [low, high, a, b] = [view.figure, view.box].flatMap((box) => [box[k], box[k + 2]]);
    const at = clip((v + 1) / 2 * [view.w, view.h][k], low, high);
    return ((at - low) / (high - low) * (b - a) + a) / view.square.w * 2 - 1;
  };
  return [moved(x, 0), moved(y, 1)];
}

// --- a reference: what is behind its figure becomes white, as in refcolor.surroundings

const STEP = 14;                                          // levels; a shape's border has more
function around(plane, w, h, r, f) {                      // f of a square of pixels; edges go on
  const at = (x, y) => plane[clip(y, 0, h - 1) * w + clip(x, 0, w - 1)], k = 2 * r + 1;
  return filled(new plane.constructor(w * h), (i) => f(Array.from({ length: k * k }, (_, j) =>
    at(i % w + j % k - r, Math.floor(i / w) + Math.floor(j / k) - r))));
}
function areasOf(flat, w, h) {                            // 0, or the number of a connected area
  const area = new Int32Array(w * h);
  let n = 0;
  for (let start = 0; start < w * h; start++) {
    if (!flat[start] || area[start]) continue;
    const open = [start];
    for (n++; open.length;) {
      const i = open.pop();
      if (!flat[i] || area[i]) continue;
      area[i] = n;
      if (i % w) open.push(i - 1);
      if ((i + 1) % w) open.push(i + 1);
      if (i >= w) open.push(i - w);
      if (i < w * (h - 1)) open.push(i + w);
    }
  }
  return area;
}
function upperRim(w, h) {                                 // shoulders end below
  const rim = new Set(Array.from({ length: w }, (_, x) => x));
  for (let y = 0; y < h >> 1; y++) rim.add(y * w).add(y * w + w - 1);
  return [...rim];
}
function backgroundOf(image, box) {                       // 0 to 255, of the box; or null
  const mean = (values) => byte(values.reduce((a, b) => a + b, 0) / values.length);
  const thumb = thumbnail(crop(image, box), 256), { w, h } = thumb;
  const rim = upperRim(w, h);
  if (thumb.planes.every((plane) => median(rim.map((i) => plane[i])) >= 245)) return null;
  const { planes } = map(thumb, (plane) => around(plane, w, h, 1, mean));
  const colour = (cells) => planes.map((plane) => median(cells.map((i) => plane[i])));
  const range = (v) => Math.max(...v) - Math.min(...v), most = (v) => Math.max(...v);
  const steps = planes.map((plane) => around(plane, w, h, 1, range));
  const area = areasOf(cells(w * h, (i) => +steps.every((s) => s[i] < STEP)), w, h);
  const members = new Map();
  area.forEach((a, i) => {
    if (!members.has(a)) members.set(a, []);
    members.get(a).push(i);
  });
  const below = new Map(), along = new Map(), found = new Set();
  for (let y = h >> 1; y < h; y++) for (const a of [area[y * w], area[y * w + w - 1]])
    below.set(a, (below.get(a) ?? 0) + 1);
  for (const [a, n] of below)                             // the paper is white: hair, close up
    if (a && n > 4 && Math.min(...colour(members.get(a))) >= 245) return null;
  for (const i of rim) along.set(area[i], (along.get(area[i]) ?? 0) + 1);
  for (let y = 0; y < Math.min(4, h); y++) for (let x = 0; x < Math.min(4, w); x++)
    for (const a of [area[y * w + x], area[y * w + w - 1 - x]])
      if (a && (along.get(a) ?? 0) >= 0.05 * rim.length) found.add(a);
  const colours = [...found].map((a) => colour(members.get(a)));
  const ends = [...Array(h).keys()].flatMap((y) => [y * w, y * w + w - 1])
    .concat([...Array(w).keys()].map((x) => w * (h - 1) + x));
  for (const a of new Set(ends.map((i) => area[i]))) {    // below an arm
    if (!a) continue;
    const own = colour(members.get(a));
    if (colours.some((c) => c.every((v, k) => Math.abs(v - own[k]) < STEP))) found.add(a);
  }
  const mask = around(cells(w * h, (i) => 255 * found.has(area[i])), w, h, 2, most);
  const share = mask.reduce((a, b) => a + b, 0) / 255 / mask.length;
  if (!(share > 0.05 && share < 0.97)) return null;       // nothing would be left
  return resize(picture(w, h, [mask]), box[2] - box[0], box[3] - box[1], "bilinear").planes[0];
}
function onWhite(image, name) {                           // with a note, if something was done
  let result = image, box = [0, 0, image.w, image.h], note = "";
  for (let pass = 0; pass < 2; pass++) {
    const background = backgroundOf(image, box);
    if (background) {
      result = map(image, (plane) => new Uint8Array(plane.length).fill(255));
      paste(result, map(crop(image, box), (plane) => plane.map((v, i) =>
        Math.round((v * (255 - background[i]) + 255 * background[i]) / 255))), box[0], box[1]);
      note = "its background is taken for white paper";
    }
    box = drawnIn(result);
  }
  const { w, h, planes } = thumbnail(crop(result, box), 256), rim = upperRim(w, h);
  const other = rim.filter((i) => planes.some((p) => p[i] < 225)), n = other.length;
  const span = (p) => {                                   // of one colour it is hair, close up
    const sorted = other.map((i) => p[i]).sort((a, b) => a - b);
    return sorted[Math.floor(0.9 * (n - 1))] - sorted[Math.floor(0.1 * (n - 1))];
  };
  if (n >= 0.4 * rim.length && planes.some((p) => span(p) > 30))
    note = "many colours around the figure, which may be taken for its own; cut it out, on white " +
           "or on nothing";
  return { ...result, notes: [...image.notes, ...note ? [`${name}: ${note}`] : []] };
}
export function referenceOf(image, name) {                // as the network knows them
  const notes = colourNote(image, name);
  return notes.length ? { ...image, notes: [...image.notes, ...notes] } : onWhite(image, name);
}

// --- from the network's square to the drawing's size: colours that end at its lines

function withNeighbours(x, w, h) {
  const total = Float32Array.from(x), n = w * h;
  for (let i = w; i < n; i++) total[i] += x[i - w];
  for (let i = w; i < n; i++) total[i - w] += x[i];
  for (let y = 0; y < n; y += w) {
    for (let i = y + 1; i < y + w; i++) total[i] += x[i - 1];
    for (let i = y + 1; i < y + w; i++) total[i - 1] += x[i];
  }
  return total;
}
function flow(state, paper, w, h, steps, ontoInk) {
  const share = withNeighbours(paper, w, h);
  for (let i = 0; i < share.length; i++) share[i] = paper[i] / Math.max(1, share[i]);
  return state.map((plane) => {
    let moving = plane.map((v, i) => v * paper[i]);
    for (let k = 0; k < steps; k++) {
      moving = withNeighbours(moving, w, h);
      for (let i = 0; i < moving.length; i++) moving[i] *= share[i];
    }
    const rest = ontoInk ? withNeighbours(moving, w, h) : plane;
    if (ontoInk) for (let i = 0; i < rest.length; i++) rest[i] += 1e-3 * plane[i];
    for (let i = 0; i < moving.length; i++) if (!paper[i]) moving[i] += rest[i];
    return moving;
  });
}
function halved({ w, h, paper }) {                        // paper is where there is no ink at all
  const [wide, high] = [(w + 1) >> 1, (h + 1) >> 1];
  const at = (x, y) => x < w && y < h ? paper[y * w + x] : 1;
  return { w: wide, h: high, paper: filled(new Float32Array(wide * high), (i) => {
    const x = 2 * (i % wide), y = 2 * Math.floor(i / wide);
    return at(x, y) * at(x + 1, y) * at(x, y + 1) * at(x + 1, y + 1);
  }) };
}
function colourBetweenLines(fake, seen, lines) {          // floats from 0 to 1; lines of bytes
  const ink = seen.planes[0], trust = ink.map((v) => Math.max(0.1, v) ** 4);
  const state0 = [...fake.planes.map((plane) => plane.map((v, i) =>
    Math.min(1, v / Math.max(0.3, ink[i])) * trust[i])), trust];
  const paper0 = Float32Array.from(lines.planes[0]).map((v) => +(v > 153));
  const levels = [{ w: lines.w, h: lines.h, paper: paper0 }];
  const coarsest = Math.floor(Math.max(seen.w, seen.h) * 3 / 2);
  while (Math.max(levels[0].w, levels[0].h) > coarsest) levels.unshift(halved(levels[0]));
  const { w, h, paper } = levels[0];
  let { planes: state } = resize(picture(seen.w, seen.h, state0), w, h, "bilinear");
  state = flow(state, paper, w, h, 1, levels.length === 1);
  for (let k = 1; k < levels.length; k++) {
    const { w, h, paper } = levels[k], before = levels[k - 1].w;
    const large = state.map((plane) => filled(new Float32Array(w * h), (i) =>
      plane[(Math.floor(i / w) >> 1) * before + (i % w >> 1)]));
    const weak = large[3].map((v, i) => paper[i] ? 1 : Math.min(1, 0.01 / v));
    state = large.map((plane) => plane.map((v, i) => v * weak[i]));
    state = flow(state, paper, w, h, 3, k === levels.length - 1);
  }
  const [r, g, b, t] = state;
  const level = (p) => (i) => byte(p[i] / Math.max(1e-9, t[i]) * 255);
  return picture(lines.w, lines.h, [r, g, b].map((p) => cells(p.length, level(p))));
}
function inkBox(lines, figure) {                          // what the outermost lines enclose
  const part = crop(lines, figure), near = 0.02 * Math.max(part.w, part.h);
  const found = bounds((i) => part.planes[0][i] < 230, part.w, part.h) ?? [0, 0, 0, 0];
  const box = found.map((v, i) => v + figure[i % 2]), sheet = [0, 0, lines.w, lines.h];
  const [left, top, right, bottom] = box.map((v, i) => Math.abs(v - sheet[i]) <= near);
  if (left && right) [box[1], box[3]] = [figure[1], figure[3]];
  if (top && bottom) [box[0], box[2]] = [figure[0], figure[2]];
  return box;
}
export function pageColours(fake, lines, view) {          // of the drawing's size, without its ink
  const side = view.square.w, n = side * side;
  const unit = picture(side, side, [0, 1, 2].map((c) =>
    fake.slice(c * n, (c + 1) * n).map((v) => (v + 1) / 2)));
  const seen = map(view.square, (p) => Float32Array.from(p, (v) => v / 255));
  const inside = [unit, seen].map((image) => crop(image, view.box));
  const colour = colourBetweenLines(...inside, crop(lines, view.figure));
  const edges = edgesOf(colour), paper = [0, 1, 2].map((c) => median(edges.flatMap((e) => e[c])));
  const tinted = Math.min(...paper) < 230, box = tinted ? view.figure : inkBox(lines, view.figure);
  const page = picture(lines.w, lines.h, paper.map((v) =>
    new Uint8Array(lines.w * lines.h).fill(tinted ? Math.trunc(v) : 255)));
  paste(page, crop(colour, box.map((v, i) => v - view.figure[i % 2])), box[0], box[1]);
  return page;
}
export function multiplied(colours, lines) {
  return map(colours, (plane) => plane.map((v, i) => Math.round(v * lines.planes[0][i] / 255)));
}

// --- hints: a part of the drawing looks at a colour of a reference

function cellAt(x, y, width, height = width) {
  const at = (v, n) => clip(Math.trunc((v + 1) / 2 * n), 0, n - 1);
  return at(y, height) * width + at(x, width);
}
function partAround(paper, side, at) {                    // what a point reaches, within the lines
  const row = (i) => Math.floor(i / side);
  const away = (i) => (row(i) - row(at)) ** 2 + (i % side - at % side) ** 2;
  let start = -1;
  paper.forEach((p, i) => { if (p && (start < 0 || away(i) < away(start))) start = i; });
  const part = new Uint8Array(side * side), open = start < 0 ? [] : [start];
  while (open.length) {
    const i = open.pop(), x = i % side;
    if (part[i] || !paper[i]) continue;
    part[i] = 1;
    if (x) open.push(i - 1);
    if (x < side - 1) open.push(i + 1);
    if (i >= side) open.push(i - side);
    if (i < side * (side - 1)) open.push(i + side);
  }
  return part;
}
function colourAround(reference, side, at) {              // where it has the colour of a point
  const n = side * side, x = at % side, y = Math.floor(at / side), colour = [0, 1, 2].map((c) => {
    const patch = [];
    for (let j = Math.max(0, y - 1); j < Math.min(side, y + 2); j++)
      for (let i = Math.max(0, x - 1); i < Math.min(side, x + 2); i++)
        patch.push(reference[c * n + j * side + i]);
    return patch.sort((a, b) => a - b)[(patch.length - 1) >> 1];
  });
  const like = (i) => (v, c) => Math.abs(reference[c * n + i] - v) < 0.2;
  return cells(n, (i) => +colour.every(like(i)));
}
export function cellMeans(plane, side, p) {               // means of p × p cells
  const from = (v) => Math.floor(v * side / p), to = (v) => Math.ceil((v + 1) * side / p);
  return filled(new Float32Array(p * p), (i) => {
    const row = Math.floor(i / p), [x0, x1, y0, y1] = [from(i % p), to(i % p), from(row), to(row)];
    let sum = 0;
    for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) sum += plane[y * side + x];
    return sum / (x1 - x0) / (y1 - y0);
  });
}
// hints: [x, y, u, v, k], in [-1, 1] of the squares; k counts the references
export function hintMask(hints, sketch, references, side, p) {
  const n = p * p, width = references.length * n, mask = new Float32Array(n * width);
  const paper = sketch.map((v) => +(v > 0.5));
  for (const [x, y, u, v, k] of hints) {
    const here = cellMeans(partAround(paper, side, cellAt(x, y, side)), side, p);
    const there = cellMeans(colourAround(references[k], side, cellAt(u, v, side)), side, p);
    here[cellAt(x, y, p)] = there[cellAt(u, v, p)] = 1;
    here.forEach((share, i) => {
      if (share < 0.3) return;
      mask.fill(-Infinity, i * width, (i + 1) * width);
      there.forEach((s, j) => { if (s >= 0.5) mask[i * width + k * n + j] = 0; });
    });
  }
  return mask;
}
