"""Does a study hold what it claims? Its files, its results, a cell trained once more."""
