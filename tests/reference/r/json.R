# JSON with the fewest digits, 15 to 17, that read back equal.

# Mark a vector, list or matrix to be written as an array, also if it has one element or none.
arr <- function(x) structure(list(x = x), class = "arr")
mat <- function(x) arr(unname(as.matrix(x)))

# An empty list that is written as an object.
named <- function(l) if (length(l)) l else setNames(list(), character())

json_numbers <- function(x) {
  text <- rep("null", length(x))
  finite <- is.finite(x)
  if (any(finite)) {
    v <- x[finite]
    s <- sprintf("%.15g", v)
    for (form in c("%.16g", "%.17g")) {
      differs <- as.numeric(s) != v
      if (any(differs)) s[differs] <- sprintf(form, v[differs])
    }
    text[finite] <- s
  }
  text
}

json_strings <- function(x) {
  text <- gsub("\\", "\\\\", enc2utf8(x), fixed = TRUE)
  text <- gsub("\"", "\\\"", text, fixed = TRUE)
  text <- gsub("\n", "\\n", text, fixed = TRUE)
  text <- gsub("\t", "\\t", text, fixed = TRUE)
  ifelse(is.na(text), "null", paste0("\"", text, "\""))
}

json_atoms <- function(x) {
  if (is.factor(x)) x <- as.character(x)
  if (is.character(x)) json_strings(x)
  else if (is.logical(x)) ifelse(is.na(x), "null", ifelse(x, "true", "false"))
  else json_numbers(as.numeric(x))
}

json_row <- function(x) paste0("[", paste(json_atoms(unname(x)), collapse = ", "), "]")

json <- function(x, indent = 0) {
  pad <- strrep(" ", indent + 1)
  lines <- function(items, brackets) {
    paste0(brackets[1], "\n", paste0(pad, items, collapse = ",\n"), "\n", strrep(" ", indent),
           brackets[2])
  }
  if (is.null(x)) return("null")
  if (inherits(x, "arr")) {
    y <- x$x
    if (is.matrix(y)) {
      if (!nrow(y)) return("[]")
      return(lines(vapply(seq_len(nrow(y)), function(i) json_row(y[i, ]), ""), c("[", "]")))
    }
    if (!is.list(y)) return(json_row(y))
    if (!length(y)) return("[]")
    return(lines(vapply(unname(y), json, "", indent = indent + 1), c("[", "]")))
  }
  if (is.matrix(x)) return(json(arr(x), indent))
  if (is.list(x)) {
    if (!length(x)) return("{}")
    if (is.null(names(x))) return(json(arr(x), indent))
    items <- mapply(function(n, v) paste0(json_strings(n), ": ", json(v, indent + 1)), names(x), x)
    if (sum(nchar(items)) < 150 && !any(grepl("\n", items, fixed = TRUE))) {
      return(paste0("{", paste(items, collapse = ", "), "}"))
    }
    return(lines(items, c("{", "}")))
  }
  if (length(x) == 1) json_atoms(unname(x)) else json_row(x)
}

# Write the record of a fitted model to models/<id>.json.
write_model <- function(record) {
  folder <- file.path(OUT, "models")
  dir.create(folder, recursive = TRUE, showWarnings = FALSE)
  con <- file(file.path(folder, paste0(record$id, ".json")), open = "wb")
  on.exit(close(con))
  writeLines(enc2utf8(json(record)), con, useBytes = TRUE)
}
