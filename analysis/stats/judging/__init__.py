"""The mathematics of judged responses: crossed means, ranks of pairs, corrected judges."""
