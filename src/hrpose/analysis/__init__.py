"""Why the AP is what it is: errors by kind, boxes, scores; and the constants that OKS rests on."""
