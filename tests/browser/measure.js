// What a page looks like to a person, as one object.
const visible = (element) => {
  const box = element.getBoundingClientRect();
  return box.width > 0 && box.height > 0 && element.checkVisibility({ checkVisibilityCSS: true, checkOpacity: true });
};

const colour = (text) => {
  const numbers = text.match(/[\d.]+/g).map(Number);
  return { rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1 };
};

const luminance = (rgb) => {
  const [r, g, b] = rgb.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

const contrast = (one, other) => {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};

const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = colour(getComputedStyle(at).backgroundColor);
    if (found.alpha === 1) return found.rgb;
  }
  return [255, 255, 255];
};

const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
const describe = (element) => `${element.tagName.toLowerCase()}.${element.getAttribute("class") || ""}`;

const all = [...document.body.querySelectorAll("*")].filter(visible);
const texts = {};
for (const element of all.filter(hasText)) {
  const style = getComputedStyle(element);
  const ink = colour(element.closest("svg") ? style.fill : style.color).rgb;
  const kind = describe(element);
  const found = contrast(ink, ground(element));
  const size = parseFloat(style.fontSize);
  texts[kind] = { contrast: Math.min(found, texts[kind]?.contrast ?? 99), size: Math.min(size, texts[kind]?.size ?? 99) };
}

const lines = {};
for (const element of all.filter((one) => one.matches("path.l"))) {
  const style = getComputedStyle(element);
  lines[describe(element)] = { contrast: contrast(colour(style.stroke).rgb, ground(element)), dash: style.strokeDasharray };
}

const page = document.documentElement;
const right = (element) => element.getBoundingClientRect().right;
return {
  scrollWidth: page.scrollWidth,
  clientWidth: page.clientWidth,
  // What would be cut off on the right. What scrolls by itself (.wide) or is cut on purpose does so inside its own box.
  sticksOut: all.filter((one) => !one.closest(".wide, svg") && right(one) > page.clientWidth + 0.5).map(describe),
  verdict: [...document.querySelectorAll(".verdict h1, .verdict .why")].map((one) => ({
    text: one.textContent,
    bottom: one.getBoundingClientRect().bottom,
  })),
  checks: [...document.querySelectorAll(".check")].map((one) => ({
    name: one.querySelector("h3").textContent,
    visible: visible(one.querySelector("h3")),
    failed: one.classList.contains("failed"),
    evidence: one.querySelector(".evidence") ? visible(one.querySelector(".evidence")) : null,
  })),
  plots: [...document.querySelectorAll("svg.plot")].map((one) => {
    const box = one.getBoundingClientRect();
    const inner = one.querySelector("svg").getBoundingClientRect();
    return {
      width: box.width, height: box.height, innerWidth: inner.width, hidden: !visible(one),
      cut: [...one.querySelectorAll("text")].some((text) => right(text) > right(one.closest("figure")) + 0.5),
    };
  }),
  texts: texts,
  lines: lines,
  ground: getComputedStyle(document.body).backgroundColor,
};
