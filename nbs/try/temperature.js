// A live twin of lesson 06's `draw_search`: a drawing searches itself, at a temperature.

import { attention, bits, mixture, row } from "./explorer.js";
import { element, fetched } from "./model.js";
import { canvas, cellMeans, decode, toTensor } from "./pictures.js";

export function colourVectors(x, side) {                  // (256, 4), all of length √3
  const n = side * side, plane = (c) => x.subarray(c * n, (c + 1) * n);
  const rgb = [0, 1, 2].map((c) => cellMeans(plane(c), side, 16));
  return Array.from({ length: 256 }, (_, i) => {
    const colour = rgb.map((plane) => plane[i]), square = colour.reduce((s, v) => s + v * v, 0);
    return [...colour, Math.sqrt(Math.max(0, 3 - square))];
  });
}
export function search(vectors, temperature) {            // α, and what each place finds
  const score = (q, k) => q.reduce((sum, v, c) => sum + v * k[c], 0) / 2;
  const logits = vectors.flatMap((q) => vectors.map((k) => score(q, k)));
  const alpha = attention(logits, 256, temperature), rgb = vectors.flatMap((v) => v.slice(0, 3));
  return { alpha, found: vectors.map((_, i) => mixture(row(alpha, 256, i), rgb)) };
}
const grid = (f) => canvas({ w: 16, h: 16, planes: [0, 1, 2].map((c) =>
  Array.from({ length: 256 }, (_, i) => f(i, c))) });

async function show(place) {
  const image = await decode(await fetched("pictures/reference-avatars-18.png"), "the drawing");
  const vectors = colourVectors(toTensor(image), image.w), name = "log₁₀ T";
  const range = { type: "range", min: -3, max: 1, step: 0.05, value: -1.5, "aria-label": name };
  const pictures = element("div", { class: "twin-pictures" }), words = element("p");
  const input = element("input", range), T = () => 10 ** input.value;
  let point = 23;
  function draw() {
    const { alpha, found } = search(vectors, T()), weights = row(alpha, 256, point);
    const top = Math.max(...weights), drawing = canvas(image);
    drawing.getContext("2d").strokeRect(point % 16 * 6, Math.floor(point / 16) * 6, 6, 6);
    pictures.replaceChildren(drawing, grid((i) => 255 * weights[i] / top),
                             grid((i, c) => (found[i][c] + 1) * 127.5));
    words.textContent = `T = ${T().toPrecision(2)}: the marked place looks at about ` +
      `${(2 ** bits(weights)).toFixed(1)} places. Left the drawing (move over it), then its row ` +
      "of α, then what each place receives.";
  }
  pictures.addEventListener("pointermove", ({ clientX, clientY }) => {
    const r = pictures.firstChild.getBoundingClientRect();
    const [x, y] = [clientX - r.left, clientY - r.top].map((v) => Math.floor(v / r.width * 16));
    if (Math.min(x, y) < 0 || Math.max(x, y) > 15 || y * 16 + x === point) return;
    point = y * 16 + x;
    draw();
  });
  input.addEventListener("input", draw);
  place.append(element("label", {}, `${name} `, input), pictures, words);
  draw();
}
const place = document.querySelector("[data-twin=temperature]");
if (place) show(place);
