"use strict";
const recordings = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

for (const section of document.querySelectorAll(".recording")) {
  const data = recordings[Number(section.dataset.number)];
  const image = section.querySelector("img");
  const overlay = section.querySelector(".overlay");
  const slider = section.querySelector("input");
  const output = section.querySelector("output");
  const select = section.querySelector("select");
  const blocks = [...section.querySelectorAll(".person")];
  const shown = Object.keys(data.images).map(Number).sort((a, b) => a - b);
  let frame = 0;
  let person = 0;

  // The frame whose image is shown: the last one that there is an image of, or the frame itself.
  function imageOf(at) {
    const before = shown.filter((each) => each <= at);
    return before.length ? before[before.length - 1] : at;
  }

  function drawSkeletons(at) {
    overlay.replaceChildren();
    data.persons.forEach((each, index) => {
      const points = each.points[at];
      if (!points) return;
      for (const [a, b, side] of data.limbs) {
        const ends = [points[2 * a], points[2 * a + 1], points[2 * b], points[2 * b + 1]];
        if (ends.includes(null)) continue;
        const line = document.createElementNS(SVG, "line");
        ["x1", "y1", "x2", "y2"].forEach((name, i) => line.setAttribute(name, ends[i]));
        line.setAttribute("class", `s${side}${index === person ? "" : " other"}`);
        overlay.append(line);
      }
    });
  }

  function text(each, measure, row) {
    const [value, low, high] = each.values[measure].map((column) => column[row]);
    const flag = data.flags[each.flags[measure][row]];
    if (value === null) return flag;
    const half = low === null ? "" : ` (${low} to ${high})`;
    return `${value} ${each.units[measure]}${half}${flag ? `, ${flag}` : ""}`;
  }

  function show(wanted) {
    frame = Math.min(Math.max(wanted, 0), data.times.length - 1);
    const at = imageOf(frame);
    if (image && data.images[at]) {
      image.src = data.images[at];
      image.hidden = false;
    }
    drawSkeletons(at);
    if (!slider) return;
    slider.value = frame;
    output.value = `frame ${data.numbers[frame]}, ${data.times[frame].toFixed(2)} s`;
    const each = data.persons[person];
    const row = each.rows.indexOf(frame);
    const [first, last] = [data.times[0], data.times[data.times.length - 1]];
    const share = (data.times[frame] - first) / Math.max(last - first, 1e-9);
    for (const chart of blocks[person].querySelectorAll(".chart")) {
      const [left, right] = [Number(chart.dataset.left), Number(chart.dataset.right)];
      const cursor = chart.querySelector(".cursor");
      cursor.setAttribute("x1", left + share * (right - left));
      cursor.setAttribute("x2", left + share * (right - left));
      for (const key of chart.querySelectorAll(".key")) {
        key.querySelector("b").textContent = row < 0 ? "" : text(each, key.dataset.measure, row);
      }
    }
  }

  // The frame itself where the person is in it, else the first one where the person is.
  function entered(at) {
    const { rows } = data.persons[person];
    return rows.length && !rows.includes(at) ? rows[0] : at;
  }

  function follow(event) {
    const chart = event.currentTarget.closest(".chart");
    const box = event.currentTarget.getBoundingClientRect();
    const [left, right] = [Number(chart.dataset.left), Number(chart.dataset.right)];
    const x = ((event.clientX - box.left) / box.width) * event.currentTarget.viewBox.baseVal.width;
    const [first, last] = [data.times[0], data.times[data.times.length - 1]];
    const time = first + ((x - left) / (right - left)) * (last - first);
    let nearest = 0;
    data.times.forEach((each, i) => {
      if (Math.abs(each - time) < Math.abs(data.times[nearest] - time)) nearest = i;
    });
    show(nearest);
  }

  for (const chart of section.querySelectorAll(".chart svg")) {
    chart.addEventListener("pointermove", follow);
    chart.addEventListener("pointerdown", follow);
  }
  if (slider) {
    slider.max = data.times.length - 1;
    slider.addEventListener("input", () => show(Number(slider.value)));
  }
  select.addEventListener("change", () => {
    person = Number(select.value);
    blocks.forEach((block, index) => { block.hidden = index !== person; });
    show(entered(frame));
  });
  show(entered(0));
}
