// The page: its two faces, one network for both.

import colour from "./colour.js";
import { showColour } from "./colouring.js";
import { Model, Refusal, element, here } from "./model.js";
import { openNetwork } from "./network.js";
import { showWhy } from "./why.js";

const FACES = ["Colour", "Why?"];
const place = document.getElementById("try"), rooms = FACES.map(() => element("div"));
const note = element("p", { role: "status" }, "Loading the network, 18 MB …");

async function start() {
  const gallery = await (await fetch(here("gallery.json"))).json();
  const opening = openNetwork(gallery.size, gallery.positions);
  const run = async (...call) => (await opening)(...call);
  const faces = new Model({ faces: FACES, face: FACES[0] });
  async function show() {
    const i = FACES.indexOf(faces.get("face"));
    rooms.forEach((room, k) => { room.hidden = k !== i; });
    if (!rooms[i].children.length) await [showColour, showWhy][i](rooms[i], gallery, run);
  }
  await show();
  colour.render({ model: faces, el: place });
  const artists = [...new Set(gallery.sketch.map((entry) => entry.artist))].join("; ");
  place.append(...rooms, element("p", {}, `The gallery's drawings, recoloured: ${artists}.`));
  faces.on("change:face", show);
  note.remove();
}

document.querySelector(".md-typeset")?.after(place);      // the theme's letters are not the faces'
place.append(note);
start().catch((error) => {
  note.textContent = error instanceof Refusal ? error.message :
    "The network did not start in this browser; reload the page, or use another browser.";
  if (!(error instanceof Refusal)) throw error;
});
