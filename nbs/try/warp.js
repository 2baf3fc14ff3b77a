// A live twin of lesson 03's `draw_warp`: drag the points, and see what the spline makes of it.

import { element, fetched } from "./model.js";
import { canvas, decode } from "./pictures.js";

const square = ([a, b], [x, y]) => (a - x) ** 2 + (b - y) ** 2;
const bump = (p, q) => square(p, q) && square(p, q) * Math.log(square(p, q));
export function fit(points, values) {                     // a thin-plate spline: f(point) = value
  const k = points.length, zero = [0, 0, 0], rows = [
    ...points.map((p, i) => [...points.map((q) => bump(p, q)), 1, ...p, ...values[i]]),
    ...[() => 1, ([x]) => x, ([, y]) => y].map((f) => [...points.map(f), ...zero, 0, 0])];
  for (let c = 0; c < k + 3; c++) {                       // Gauss and Jordan
    let best = c;
    for (let i = c; i < k + 3; i++) if (Math.abs(rows[i][c]) > Math.abs(rows[best][c])) best = i;
    [rows[c], rows[best]] = [rows[best], rows[c]];
    const pivot = rows[c].map((v) => v / rows[c][c]);
    rows.forEach((r, i) => { rows[i] = i === c ? pivot : r.map((v, j) => v - r[c] * pivot[j]); });
  }
  const terms = (p) => [...points.map((q) => bump(p, q)), 1, ...p];
  return (p) => [0, 1].map((d) => terms(p).reduce((sum, t, i) => sum + t * rows[i][k + 3 + d], 0));
}
export function warped(image, f) {                        // pixels show what f reads, or black
  const { w, h } = image, planes = image.planes.map(() => new Uint8Array(w * h));
  for (let i = 0; i < w * h; i++) {
    const [x, y] = f([(i % w * 2 + 1) / w - 1, (Math.floor(i / w) * 2 + 1) / h - 1]);
    const u = ((x + 1) * w - 1) / 2, v = ((y + 1) * h - 1) / 2, [a, b] = [u, v].map(Math.floor);
    image.planes.forEach((plane, c) => {
      const at = (s, t) => s >= 0 && t >= 0 && s < w && t < h ? plane[t * w + s] : 0;
      const across = (t) => at(a, t) * (1 - u + a) + at(a + 1, t) * (u - a);
      planes[c][i] = Math.round(across(b) * (1 - v + b) + across(b + 1) * (v - b));
    });
  }
  return { w, h, planes };
}
function mesh(image, f, points) {                         // a picture, with lines and points
  const page = element("canvas", { width: 300, height: 300 }), context = page.getContext("2d");
  const at = (p) => p.map((v) => (v + 1.3) * 115);
  const line = [...Array(13).keys()].map((i) => i / 6 - 1);
  context.drawImage(canvas(image), ...at([-1, -1]), 230, 230);
  const pen = (i, p) => context[i ? "lineTo" : "moveTo"](...at(f(p)));
  for (const a of line) line.forEach((b, i) => pen(i, [a, b]));
  for (const a of line) line.forEach((b, i) => pen(i, [b, a]));
  Object.assign(context, { strokeStyle: "#1f77b4", fillStyle: "#d62728" }).stroke();
  for (const p of points) context.fillRect(...at(p).map((v) => v - 4), 8, 8);
  return page;
}
async function show(place) {
  const image = await decode(await fetched("pictures/reference-avatars-18.png"), "the drawing");
  const grid = [-1, 0, 1].flatMap((y) => [-1, 0, 1].map((x) => [x, y])), moved = [...grid];
  const pictures = element("div", { class: "twin-pictures" });
  function draw() {
    const f = fit(grid, moved);
    pictures.replaceChildren(mesh(warped(image, f), (p) => p, []), mesh(image, f, moved));
  }
  pictures.addEventListener("pointermove", ({ clientX, clientY, buttons }) => {
    const r = pictures.lastChild.getBoundingClientRect();
    const p = [clientX - r.left, clientY - r.top].map((v) => v / r.width * 300 / 115 - 1.3);
    const near = moved.reduce((m, q, i) => square(q, p) < square(moved[m], p) ? i : m, 0);
    if (buttons && square(moved[near], p) < 0.1) { moved[near] = p; draw(); }
  });
  place.append(pictures, "Drag a red point, right; what is read there shows at its place, left.");
  moved[4] = [0.25, -0.15];
  draw();
}
const place = document.querySelector("[data-twin=warp]");
if (place) show(place);
