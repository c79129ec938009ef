// Every text of the page in English and Chinese, and the names of keypoints.

const WORDS = {
  en: {
    language: "Language",
    stage: "Image",
    panel: "Settings and results",
    drop: "Drop an image of people here",
    dropMore: "or paste one. It is sent to this server only, and not stored.",
    choose: "Choose an image",
    chooseOther: "New image",
    camera: "Camera",
    stop: "Stop",
    threshold: "Keypoint score threshold",
    minScore: "Pose score at least",
    heatmap: "Heatmap",
    noHeatmap: "None",
    allKeypoints: "All keypoints",
    strength: "Heatmap opacity",
    show: "Show",
    skeletons: "Skeletons",
    boxes: "Boxes",
    names: "Names",
    flipTest: "Flip test",
    add: "Add a person box",
    boxHelp: "Drag a box to move it, a corner to resize it. On the keyboard, arrows move it, Shift and arrows resize it, Delete removes it.",
    left: "left",
    right: "right",
    sides: "as the person's own sides",
    json: "Save as JSON",
    png: "Save as PNG",
    tokenTitle: "This server requires a token",
    token: "Token",
    tokenUse: "Continue",
    cancel: "Cancel",
    working: "Working …",
    none: "No person detected. Add a person box to mark one, or accept lower pose scores.",
    one: "1 person, {keypoints} keypoints",
    many: "{persons} people, {keypoints} keypoints",
    detectedBy: "Boxes: {by}",
    byYou: "drawn by you",
    person: "Person {n}",
    boxOf: "Box of person {n}: {w} by {h} pixels at {x}, {y}",
    remove: "Remove the box of person {n}",
    keypointColumn: "Keypoint",
    scoreColumn: "Score",
    unreadable: "This browser cannot display the file.",
    noServer: "The server cannot be reached.",
    noCamera: "The camera cannot be used.",
    cameraGone: "The camera sends no more images. Check that it is plugged in.",
    insecure: "The camera cannot be used: browsers allow it only over https or on localhost.",
    bad_image: "The server cannot read this image.",
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
    threshold: "关键点分数阈值",
    minScore: "人物姿态分数下限",
    heatmap: "热图",
    noHeatmap: "无",
    allKeypoints: "全部关键点",
    strength: "热图不透明度",
    show: "显示",
    skeletons: "骨架",
    boxes: "人体框",
    names: "名称",
    flipTest: "翻转测试",
    add: "添加人体框",
    boxHelp: "拖动人体框可移动，拖动角点可调整大小。键盘：方向键移动，Shift 加方向键调整大小，Delete 删除。",
    left: "左",
    right: "右",
    sides: "以人物自身为准",
    json: "保存为 JSON",
    png: "保存为 PNG",
    tokenTitle: "此服务器需要令牌",
    token: "令牌",
    tokenUse: "继续",
    cancel: "取消",
    working: "处理中 …",
    none: "未检测到人。可以手动添加人体框，或降低姿态分数下限。",
    one: "1 个人，{keypoints} 个关键点",
    many: "{persons} 个人，{keypoints} 个关键点",
    detectedBy: "人体框来源：{by}",
    byYou: "手动绘制",
    person: "人物 {n}",
    boxOf: "人物 {n} 的人体框：宽 {w}、高 {h} 像素，位于 {x}, {y}",
    remove: "删除人物 {n} 的人体框",
    keypointColumn: "关键点",
    scoreColumn: "分数",
    unreadable: "此浏览器无法显示该文件。",
    noServer: "无法连接服务器。",
    noCamera: "无法使用摄像头。",
    cameraGone: "摄像头不再传来画面，请检查是否已连接。",
    insecure: "无法使用摄像头：浏览器只允许在 https 或 localhost 下使用。",
    bad_image: "服务器无法读取这张图片。",
    too_large: "文件太大。",
    busy: "服务器繁忙，请稍后再试。",
    wrong_token: "令牌缺失或错误。",
    refused: "服务器拒绝了请求。",
  },
};

const KEYPOINTS_ZH = {
  nose: "鼻子", eye: "眼", ear: "耳", shoulder: "肩", elbow: "肘", wrist: "腕", hip: "髋",
  knee: "膝", ankle: "踝", pelvis: "骨盆", thorax: "胸", upper_neck: "颈", neck: "颈",
  head_top: "头顶", head: "头",
};

// The server's names of the shipped detectors; others are shown as they are.
const DETECTORS = {
  en: {
    "builtin": "built-in detector",
  },
  zh: {
    "builtin": "内置人体检测模型",
    "the full image": "整张图片",
  },
};

let language = "en";

/** The stored language, else the browser's. */
export function firstLanguage() {
  let stored = null;
  try {
    stored = localStorage.getItem("hrpose.language");
  } catch { /* private windows may forbid it */ }
  if (stored in WORDS) return stored;
  return (navigator.language || "").toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Set the language, and the text of every element with a `data-t`. */
export function setLanguage(chosen, { store = false } = {}) {
  language = chosen;
  if (store) {
    try {
      localStorage.setItem("hrpose.language", chosen);
    } catch { /* then it lasts until the page is closed */ }
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

/** The text of a key, with its {names} filled in. */
export function t(key, values = {}) {
  const text = WORDS[language][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

export function hasText(key) {
  return key in WORDS.en;
}

/** `left_elbow` in the chosen language. */
export function keypointName(name) {
  const plain = name.replaceAll("_", " ");
  if (language !== "zh") return plain;
  const [, side, part] = name.match(/^(left|right)_(.+)$/) ?? [null, "", name];
  const known = KEYPOINTS_ZH[part];
  if (!known) return plain;
  return { left: "左", right: "右", "": "" }[side] + known;
}

export function detectorName(name) {
  return DETECTORS[language][name] ?? name;
}
