# Names of columns as patsy writes them: "x:f[T.b]" for R's "x:fb", "I(x ** 2)" for "I(x^2)".

py_atom <- function(s) gsub("^", " ** ", gsub("log(", "np.log(", s, fixed = TRUE), fixed = TRUE)
py_formula <- function(s) gsub("^", "**", gsub("log(", "np.log(", s, fixed = TRUE), fixed = TRUE)

# Map the columns of a design matrix to patsy's names. A factor of which the first level has a
# column is coded in full.
py_names <- function(terms, X, data) {
  columns <- colnames(X)
  assign <- attr(X, "assign")
  labels <- attr(terms, "term.labels")
  factors <- attr(terms, "factors")
  out <- character(length(columns))
  for (k in unique(assign)) {
    these <- which(assign == k)
    if (k == 0) {
      out[these] <- "Intercept"
      next
    }
    vars <- rownames(factors)[factors[, k] > 0]
    vars <- vars[order(match(vars, strsplit(labels[k], ":", fixed = TRUE)[[1]]))]
    parts <- strsplit(columns[these], ":", fixed = TRUE)
    names <- matrix("", length(these), length(vars))
    for (v in seq_along(vars)) {
      part <- vapply(parts, `[`, "", v)
      x <- data[[vars[v]]]
      if (is.factor(x)) {
        level <- substring(part, nchar(vars[v]) + 1)
        coded <- if (levels(x)[1] %in% level) "[" else "[T."
        names[, v] <- paste0(vars[v], coded, level, "]")
      } else names[, v] <- py_atom(vars[v])
    }
    out[these] <- apply(names, 1, paste, collapse = ":")
  }
  setNames(out, columns)
}

# Map the columns of each grouping factor's random effects.
py_random_names <- function(formula, data) {
  map <- list()
  for (bar in lme4::findbars(formula)) {
    group <- gsub(" ", "", paste(deparse(bar[[3]]), collapse = ""))
    terms <- terms(eval(call("~", bar[[2]])))
    names <- py_names(terms, model.matrix(terms, data), data)
    map[[group]] <- c(map[[group]], names[setdiff(names(names), names(map[[group]]))])
  }
  map
}
