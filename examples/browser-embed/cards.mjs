const SVG = "http://www.w3.org/2000/svg";

function element(name, properties = {}, children = []) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** The features as bars, upwards where they are positive. */
export function featureChart(features, name) {
  const least = features.reduce((a, b) => Math.min(a, b), 0);
  const most = features.reduce((a, b) => Math.max(a, b), 0);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 ${-most} ${features.length} ${most - least || 1}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${features.length} features of ${name}, from ${least.toFixed(2)} to ${most.toFixed(2)}`);
  for (const [sign, kind] of [[1, "positive"], [-1, "negative"]]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", kind);
    path.setAttribute("d", Array.from(features, (value, i) => (value * sign > 0 ? `M${i} 0h1v${-value}h-1z` : "")).join(""));
    svg.append(path);
  }
  return svg;
}

/** A picture as the network saw it, with its features; the vector is the element's `features`. */
export function card({ name, prepared, features, milliseconds }, onRemove) {
  const { data, width, height } = prepared;
  const canvas = element("canvas", { width, height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${name}, as the network sees it`);
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) pixels.data.set([data[3 * i], data[3 * i + 1], data[3 * i + 2], 255], 4 * i);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  const remove = element("button", { type: "button", className: "remove", textContent: "×", title: `Remove ${name}`, onclick: onRemove });
  remove.setAttribute("aria-label", `Remove ${name}`);
  const caption = element("figcaption", {}, [
    element("span", { className: "name", textContent: name, title: name }),
    element("span", { className: "quiet", textContent: `${Math.round(milliseconds)} ms` }),
  ]);
  const figure = element("figure", { features }, [canvas, caption, featureChart(features, name), remove]);
  return element("li", {}, [figure]);
}

/** A table of the similarity of each picture to each. */
export function similarityTable(pictures, cosine) {
  const head = element("tr", {}, [element("td"), ...pictures.map(({ name }) => element("th", { scope: "col", title: name, textContent: name }))]);
  const rows = pictures.map((one, i) => element("tr", {}, [
    element("th", { scope: "row", title: one.name, textContent: one.name }),
    ...pictures.map((other, j) => {
      const value = cosine(one.features, other.features);
      const cell = element("td", { textContent: value.toFixed(3), className: i === j ? "self" : "" });
      cell.style.setProperty("--share", `${Math.round(Math.max(0, value) * 100)}%`);
      return cell;
    }),
  ]));
  return element("table", {}, [element("thead", {}, [head]), element("tbody", {}, rows)]);
}
