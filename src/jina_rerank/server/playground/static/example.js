// What "Example" loads.

export const EXAMPLE = {
  query: "How should I store coffee beans?",
  documents: [
    "Espresso wants a fine grind, and the beans should be ground just before you brew.",
    "A French press needs four minutes, then the plunger goes down slowly.",
    "The freezer is for months, not for days: seal the bag well, and let it come to room temperature before you open it.",
    "Light roasts keep more of the taste of the bean; dark roasts taste of the roast.",
    "Coffee beans keep best in an airtight jar, away from light, heat and moisture.",
    "My grandmother kept her beans on top of the fridge, and her coffee was terrible.",
    "Rinse the paper filter with hot water before you brew.",
    "Once opened, a bag is at its best for two to three weeks.",
  ].join("\n"),
  division: "lines",
};
