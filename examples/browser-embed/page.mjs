import { card, similarityTable } from "./cards.mjs";
import { cosine, Encoder } from "./encoder.mjs";
import { decode, prepare } from "./pictures.mjs";

const byId = (id) => document.getElementById(id);
const pictures = [];
let encoder = null;
/** One after the other, in the order in which they came. */
let queue = Promise.resolve();

function say(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

function show() {
  byId("cards").replaceChildren(...pictures.map((picture) => card(picture, () => {
    pictures.splice(pictures.indexOf(picture), 1);
    show();
    byId("files").focus();
  })));
  byId("empty").hidden = pictures.length > 0;
  byId("similarities").hidden = pictures.length < 2;
  if (pictures.length < 2) return;
  byId("table").replaceChildren(similarityTable(pictures, cosine));
  const pairs = pictures.flatMap((one, i) => pictures.slice(i + 1).map((other) => ({ one, other, value: cosine(one.features, other.features) })));
  const best = pairs.reduce((a, b) => (b.value > a.value ? b : a));
  const which = pictures.length === 2 ? "The two pictures have" : `The most alike are ${best.one.name} and ${best.other.name}, with`;
  byId("best").replaceChildren(`${which} a cosine similarity of `, Object.assign(document.createElement("strong"), { textContent: best.value.toFixed(3) }), ".");
}

async function add(file) {
  say(`Embedding ${file.name} …`);
  await new Promise(requestAnimationFrame); // the line above is seen before the network takes the thread
  try {
    const prepared = prepare(await decode(file), encoder.metadata);
    const begin = performance.now();
    const features = await encoder.embed(prepared);
    pictures.push({ name: file.name, prepared, features, milliseconds: performance.now() - begin });
    show();
    say(`${pictures.length} ${pictures.length === 1 ? "picture" : "pictures"} embedded.`);
  } catch (error) {
    say(`${file.name}: ${error.name === "InvalidStateError" ? "it is no picture that this browser can read" : error.message}`, true);
  }
}

function addAll(files) {
  for (const file of files) queue = queue.then(() => add(file));
}

const zone = byId("drop");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => zone.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (encoder !== null) addAll(event.dataTransfer.files);
});
byId("files").addEventListener("change", ({ target }) => {
  addAll([...target.files]);
  target.value = "";
});

try {
  encoder = await Encoder.load("./encoder.onnx", (done) => {
    byId("progress").value = done;
    if (done === 1) say("Preparing the encoder …");
  });
  const { arch, image_size: size, feature_dim: dim, precision, source } = encoder.metadata;
  const facts = [arch, `${dim} features`, `${size.replace("x", " × ")} px`, precision, `${(encoder.bytes / 1e6).toFixed(1)} MB`];
  byId("model").replaceChildren(...facts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  byId("model").title = source;
  byId("files").disabled = false;
  zone.classList.remove("waiting");
  say("Ready: choose two or more pictures.");
} catch (error) {
  say(error.message, true);
} finally {
  byId("progress").hidden = true;
}
