// Every word of the page, in English and Chinese, and the names of joints.

const WORDS = {
  en: {
    language: "Language",
    stage: "Picture",
    panel: "Settings and results",
    drop: "Drop a picture of people here",
    dropMore: "or paste one. It goes to this server only, and is not kept.",
    choose: "Choose a picture",
    chooseOther: "New picture",
    camera: "Camera",
    stop: "Stop",
    threshold: "Least score of a joint",
    heatmap: "Heatmap",
    noHeatmap: "None",
    allJoints: "All joints",
    strength: "Strength of the heatmap",
    show: "Show",
    skeletons: "Skeletons",
    boxes: "Boxes",
    names: "Names",
    flipTest: "Flip test",
    add: "Add a person's box",
    boxHelp: "Drag a box to move it, a corner to resize it. With the keyboard: arrows move, Shift and arrows resize, Delete removes.",
    left: "left",
    right: "right",
    sides: "the person's own sides",
    json: "Save as JSON",
    png: "Save as PNG",
    tokenTitle: "This server asks for a token",
    token: "Token",
    tokenUse: "Use it",
    cancel: "Cancel",
    working: "Looking …",
    nobody: "Nobody found. Add a person's box to look there.",
    one: "1 person, {joints} joints",
    many: "{people} people, {joints} joints",
    foundBy: "boxes: {by}",
    byYou: "yours",
    person: "Person {n}",
    boxOf: "Box of person {n}: {w} by {h} pixels at {x}, {y}",
    remove: "Remove the box of person {n}",
    jointColumn: "Joint",
    scoreColumn: "Score",
    unreadable: "This browser cannot show that file.",
    noServer: "The server cannot be reached.",
    noCamera: "The camera cannot be used.",
    cameraGone: "The camera gives no more pictures. Check that it is plugged in.",
    insecure: "The camera cannot be used: a browser allows it only over https or on localhost.",
    bad_picture: "The server cannot read this picture.",
    too_large: "This file is too large.",
    busy: "The server is busy. Try again in a moment.",
    wrong_token: "The token is missing or wrong.",
    refused: "The server refused the request.",
  },
  zh: {
    language: "语言",
    stage: "图片",
    panel: "设置与结果",
    drop: "将含有人物的图片拖到这里",
    dropMore: "也可以直接粘贴。图片只发送到本服务器，不会保存。",
    choose: "选择图片",
    chooseOther: "换一张图片",
    camera: "摄像头",
    stop: "停止",
    threshold: "关节的最低分数",
    heatmap: "热力图",
    noHeatmap: "无",
    allJoints: "全部关节",
    strength: "热力图强度",
    show: "显示",
    skeletons: "骨架",
    boxes: "边框",
    names: "名称",
    flipTest: "翻转测试",
    add: "添加一个人的边框",
    boxHelp: "拖动边框可移动，拖动角点可调整大小。键盘：方向键移动，Shift 加方向键调整大小，Delete 删除。",
    left: "左",
    right: "右",
    sides: "以人物自身为准",
    json: "保存为 JSON",
    png: "保存为 PNG",
    tokenTitle: "此服务器需要令牌",
    token: "令牌",
    tokenUse: "使用",
    cancel: "取消",
    working: "识别中 …",
    nobody: "没有找到人。请添加边框指出位置。",
    one: "1 个人，{joints} 个关节",
    many: "{people} 个人，{joints} 个关节",
    foundBy: "边框来源：{by}",
    byYou: "手动",
    person: "人物 {n}",
    boxOf: "人物 {n} 的边框：宽 {w}、高 {h} 像素，位于 {x}, {y}",
    remove: "删除人物 {n} 的边框",
    jointColumn: "关节",
    scoreColumn: "分数",
    unreadable: "此浏览器无法显示该文件。",
    noServer: "无法连接服务器。",
    noCamera: "无法使用摄像头。",
    cameraGone: "摄像头不再传来画面，请检查是否已连接。",
    insecure: "无法使用摄像头：浏览器只在 https 或 localhost 下允许。",
    bad_picture: "服务器无法读取这张图片。",
    too_large: "文件太大。",
    busy: "服务器繁忙，请稍后再试。",
    wrong_token: "令牌缺失或错误。",
    refused: "服务器拒绝了请求。",
  },
};

const JOINTS_ZH = {
  nose: "鼻子", eye: "眼", ear: "耳", shoulder: "肩", elbow: "肘", wrist: "腕", hip: "髋",
  knee: "膝", ankle: "踝", pelvis: "骨盆", thorax: "胸", upper_neck: "颈", neck: "颈",
  head_top: "头顶", head: "头",
};

// What a detector is called; other names are shown as they are.
const FINDERS_ZH = {
  "builtin": "内置人体检测模型",
  "builtin, or the full image where it detects nobody": "内置人体检测模型，检测不到人时用整张图片",
  "the full image": "整张图片",
};

let language = "en";

/** The language stored earlier, else the browser's. Storage may be forbidden. */
export function firstLanguage() {
  let stored = null;
  try {
    stored = localStorage.getItem("hrpose.language");
  } catch { /* private windows may refuse */ }
  if (stored in WORDS) return stored;
  return (navigator.language || "").toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Speak a language: every element that carries words is given them anew. */
export function setLanguage(chosen, { store = false } = {}) {
  language = chosen;
  if (store) {
    try {
      localStorage.setItem("hrpose.language", chosen);
    } catch { /* then it holds until the page is closed */ }
  }
  document.documentElement.lang = chosen;
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t);
  }
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === chosen));
  }
}

/** Words by key, with {names} filled in. */
export function t(key, values = {}) {
  const words = WORDS[language][key] ?? key;
  return words.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

export function knows(key) {
  return key in WORDS.en;
}

/** `left_elbow` as people say it. */
export function jointName(name) {
  const plain = name.replaceAll("_", " ");
  if (language !== "zh") return plain;
  const [, side, part] = name.match(/^(left|right)_(.+)$/) ?? [null, "", name];
  const known = JOINTS_ZH[part];
  if (!known) return plain;
  return { left: "左", right: "右", "": "" }[side] + known;
}

export function finderName(name) {
  return language === "zh" ? FINDERS_ZH[name] ?? name : name;
}
