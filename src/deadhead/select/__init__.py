"""From saliencies and a budget to a plan: rankings, knapsacks, rounds, ties. Imports scores and what comes before."""
