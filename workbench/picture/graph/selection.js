// What is selected, what belongs to it on the other side, and what a search finds. Pure.

// For every box of a side, the boxes of the other that belong to it.
export function linksOf(picture) {
  const links = { before: picture.before.boxes.map(() => []), after: picture.after.boxes.map(() => []) };
  for (const [before, after] of picture.links) {
    links.before[before].push(after);
    links.after[after].push(before);
  }
  return links;
}

// The selection after a click on these boxes of a pane: [{pane, name}, ...]. add: to what is selected, or away from it.
export function afterPick(selected, pane, names, add) {
  if (!add) return names.map((name) => ({ pane, name }));
  const clicked = new Set(names);
  const others = selected.filter((one) => one.pane !== pane || !clicked.has(one.name));
  const had = selected.length - others.length === clicked.size;
  return had ? others : [...others, ...names.map((name) => ({ pane, name }))];
}

// The boxes of a pane that are selected.
export function pickedBoxes(selected, name, pane) {
  const names = new Set(selected.filter((one) => one.pane === name).map((one) => one.name));
  return names.size ? [...pane.boxes.keys()].filter((box) => names.has(pane.boxes[box].name)) : [];
}

// The boxes of a pane whose name, label or facts contain these words.
export function matchingBoxes(pane, words) {
  const wanted = words.trim().toLowerCase();
  const has = (text) => text.toLowerCase().includes(wanted);
  return [...pane.boxes.keys()].filter((index) => {
    const { name, label, facts = [] } = pane.boxes[index];
    return has(name) || has(label) || facts.some(([key, value]) => has(`${key} ${value}`));
  });
}
