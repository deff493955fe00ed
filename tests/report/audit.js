// What is wrong with the page as it is shown: text too faint, parts that stick out, parts without content.
(async () => {
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
  await new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)));
  const faint = new Set(), outside = new Set(), empty = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [one, other] = [numbers(style.color), behind(element)].map(luminance);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) faint.add(`${ratio.toFixed(2)} ${element.tagName}.${element.className}`);
  }
  const width = document.documentElement.clientWidth;
  if (document.scrollingElement.scrollWidth > width) outside.add("page");
  for (const element of document.querySelectorAll("body *")) {
    const place = element.getBoundingClientRect();
    const kept = element.closest(".scroll, pre, .skip") && !element.matches(".scroll, pre");
    if (!kept && place.width && place.right > width + 1) outside.add(element.tagName);
  }
  for (const head of document.querySelectorAll("h2, h3")) {
    const next = head.nextElementSibling;
    if (!next || next.matches("h2, h3") && next.tagName <= head.tagName || !next.textContent && !next.querySelector("img"))
      empty.add(head.textContent);
  }
  for (const body of document.querySelectorAll("tbody")) if (!body.rows.length) empty.add("table");
  for (const image of document.images) {
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
    canvas.drawImage(image, 0, 0);
    const { data } = canvas.getImageData(0, 0, image.naturalWidth, image.naturalHeight);
    const shades = new Set(new Uint32Array(data.buffer));
    if (shades.size < 3) empty.add(image.alt);
  }
  return { faint: [...faint], outside: [...outside], empty: [...empty] };
})()
