// The chosen theme, before anything is painted. Without a choice the browser's preference holds.
try {
  const chosen = localStorage.getItem("thermocline.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch { /* no storage: the preference holds */ }
