# Shared machinery for the reference fixtures (R 4.2, lme4 1.1-31, lmerTest, pbkrtest, nlme).
# Sourced by make_references.R; expects OUT (output directory) to be set before use.
suppressMessages({library(lme4); library(lmerTest); library(parallel)})
options(contrasts = c("contr.treatment", "contr.treatment"), warn = 1, stringsAsFactors = FALSE)
ENGINE_LMER  <- sprintf("lme4 %s lmer",  format(packageDescription("lme4")$Version))
ENGINE_GLMER <- sprintf("lme4 %s glmer", format(packageDescription("lme4")$Version))
ENGINE_NLME  <- sprintf("nlme %s lme",   format(packageDescription("nlme")$Version))
HEAVY <- as.numeric(Sys.getenv("REF_TIMEOUT", "60"))      # seconds allowed for KR / profile

## ---------------------------------------------------------------- JSON ----
arr <- function(x) structure(list(x = x), class = "arr")   # always written as an array
fnum <- function(x) {                                      # shortest text that reads back equal
  out <- rep("null", length(x)); ok <- is.finite(x)
  if (any(ok)) {
    v <- x[ok]; s <- sprintf("%.15g", v)
    b <- as.numeric(s) != v; if (any(b)) s[b] <- sprintf("%.16g", v[b])
    b <- as.numeric(s) != v; if (any(b)) s[b] <- sprintf("%.17g", v[b])
    out[ok] <- s
  }
  out
}
fstr <- function(x) {
  x <- gsub("\\", "\\\\", enc2utf8(x), fixed = TRUE); x <- gsub("\"", "\\\"", x, fixed = TRUE)
  x <- gsub("\n", "\\n", x, fixed = TRUE); x <- gsub("\t", "\\t", x, fixed = TRUE)
  ifelse(is.na(x), "null", paste0("\"", x, "\""))
}
fatom <- function(x) {
  if (is.factor(x)) x <- as.character(x)
  if (is.character(x)) fstr(x)
  else if (is.logical(x)) ifelse(is.na(x), "null", ifelse(x, "true", "false"))
  else fnum(as.numeric(x))
}
js <- function(x, ind = 0) {
  pad <- strrep(" ", ind + 1); end <- strrep(" ", ind)
  if (is.null(x)) return("null")
  if (inherits(x, "arr")) {
    y <- x$x
    if (is.matrix(y)) { d <- y; dimnames(d) <- NULL
      rows <- vapply(seq_len(nrow(d)), function(i) paste0("[", paste(fatom(d[i, ]), collapse = ", "), "]"), "")
      return(if (!length(rows)) "[]" else paste0("[\n", paste0(pad, rows, collapse = ",\n"), "\n", end, "]")) }
    if (is.list(y)) {
      if (!length(y)) return("[]")
      return(paste0("[\n", paste0(pad, vapply(unname(y), js, "", ind = ind + 1), collapse = ",\n"), "\n", end, "]"))
    }
    return(paste0("[", paste(fatom(unname(y)), collapse = ", "), "]"))
  }
  if (is.matrix(x)) return(js(arr(x), ind))
  if (is.list(x)) {
    if (!length(x)) return("{}")
    if (is.null(names(x))) return(js(arr(x), ind))
    items <- mapply(function(n, v) paste0(fstr(n), ": ", js(v, ind + 1)), names(x), x)
    flat <- sum(nchar(items)) < 150 && !any(grepl("\n", items, fixed = TRUE))
    if (flat) return(paste0("{", paste(items, collapse = ", "), "}"))
    return(paste0("{\n", paste0(pad, items, collapse = ",\n"), "\n", end, "}"))
  }
  if (length(x) == 1) fatom(unname(x)) else paste0("[", paste(fatom(unname(x)), collapse = ", "), "]")
}
write_json <- function(x, file) { con <- file(file, open = "wb"); writeLines(enc2utf8(js(x)), con, useBytes = TRUE); close(con) }

## ---------------------------------------------------------------- data ----
SPEC <- new.env()
save_data <- function(name, df, factors = list(), gz = FALSE) {
  ## factors: character vector of columns (levels taken from the data frame) ; levels must be strings
  d <- as.data.frame(df); rownames(d) <- NULL
  lev <- list()
  for (f in factors) { if (!is.factor(d[[f]])) d[[f]] <- factor(d[[f]]); d[[f]] <- droplevels(d[[f]])
    lev[[f]] <- levels(d[[f]]); stopifnot(!grepl("[,\"]", lev[[f]]), lev[[f]] != "NA") }
  cols <- lapply(d, function(v) { s <- if (is.factor(v)) as.character(v) else if (is.character(v)) v else fnum(as.numeric(v))
    s[is.na(v)] <- ""; s })
  dir.create(file.path(OUT, "data"), recursive = TRUE, showWarnings = FALSE)
  fn <- paste0(name, if (gz) ".csv.gz" else ".csv"); p <- file.path(OUT, "data", fn)
  if (Sys.getenv("REF_NODATA") == "") { pt <- paste0(p, ".", Sys.getpid()); con <- if (gz) gzfile(pt, "wb", compression = 9) else file(pt, "wb")
  writeLines(c(paste(names(d), collapse = ","), do.call(paste, c(unname(cols), sep = ","))), con); close(con); file.rename(pt, p) }
  SPEC[[name]] <- list(file = fn, levels = lev)
}
load_data <- function(name) {       # the models are fitted to what the CSV says, not to the R object
  s <- SPEC[[name]]; p <- file.path(OUT, "data", s$file)
  hd <- strsplit(readLines(p, 1), ",")[[1]]
  cc <- ifelse(hd %in% names(s$levels), "character", NA)
  d <- read.csv(p, colClasses = cc, na.strings = "", check.names = FALSE)
  for (f in names(s$levels)) d[[f]] <- factor(d[[f]], levels = s$levels[[f]])
  d
}

## ----------------------------------------------------- patsy-style names ----
py_atom <- function(s) gsub("^", " ** ", gsub("log(", "np.log(", s, fixed = TRUE), fixed = TRUE)
py_formula <- function(s) gsub("^", "**", gsub("log(", "np.log(", s, fixed = TRUE), fixed = TRUE)
py_names <- function(tt, X, d) {   # tt: terms (rhs), X: its model matrix, d: data (factors are factors)
  cn <- colnames(X); a <- attr(X, "assign"); tl <- attr(tt, "term.labels"); fac <- attr(tt, "factors")
  out <- character(length(cn))
  for (k in unique(a)) { j <- which(a == k)
    if (k == 0) { out[j] <- "Intercept"; next }
    vars <- rownames(fac)[fac[, k] > 0]; vars <- vars[order(match(vars, strsplit(tl[k], ":", fixed = TRUE)[[1]]))]
    parts <- strsplit(cn[j], ":", fixed = TRUE)
    m <- matrix("", length(j), length(vars))
    for (v in seq_along(vars)) { pv <- vapply(parts, `[`, "", v); x <- d[[vars[v]]]
      m[, v] <- if (is.factor(x)) { l <- substring(pv, nchar(vars[v]) + 1)
        if (levels(x)[1] %in% l) paste0(vars[v], "[", l, "]") else paste0(vars[v], "[T.", l, "]") } else py_atom(vars[v]) }
    out[j] <- apply(m, 1, paste, collapse = ":")
  }
  setNames(out, cn)
}
fixed_py <- function(form, d, X) py_names(terms(nobars(form)), X, d)
ranef_py <- function(form, d, mf) {
  map <- list()
  for (b in findbars(form)) { g <- gsub(" ", "", paste(deparse(b[[3]]), collapse = ""))
    tt <- terms(eval(call("~", b[[2]]))); X <- model.matrix(tt, d)
    n <- py_names(tt, X, d); map[[g]] <- c(map[[g]], n[setdiff(names(n), names(map[[g]]))]) }
  map
}

## ------------------------------------------------------------ utilities ----
with_timeout <- function(expr, sec = HEAVY) {
  job <- mcparallel(try(expr, silent = TRUE), silent = TRUE)
  r <- mccollect(job, wait = FALSE, timeout = sec)
  if (is.null(r)) { tools::pskill(job$pid, tools::SIGKILL); mccollect(job, wait = TRUE); return(structure(list(), reason = "timeout")) }
  suppressWarnings(mccollect(job, wait = TRUE)); r <- r[[1]]
  if (inherits(r, "try-error") || is.null(r)) return(structure(list(), reason = trimws(sub("^Error[^:]*: *", "", paste(as.character(r), collapse = " ")))))
  r
}
failed <- function(x) !is.null(attr(x, "reason"))
catch <- function(expr) { w <- character()
  v <- withCallingHandlers(try(expr, silent = TRUE),
    warning = function(e) { w <<- c(w, conditionMessage(e)); invokeRestart("muffleWarning") },
    message = function(e) { w <<- c(w, trimws(conditionMessage(e))); invokeRestart("muffleMessage") })
  list(value = v, notes = unique(w)) }
logf <- function(...) { cat(sprintf(...), "\n"); flush(stdout()) }
INDEX <- list()
add_index <- function(id, engine, formula, data, exercises, extra = list())
  INDEX[[length(INDEX) + 1]] <<- c(list(id = id, engine = engine, formula = formula, data = data), extra, list(exercises = exercises))
write_index <- function() invisible()    
only <- strsplit(Sys.getenv("REF_ONLY", ""), ",")[[1]]    # debugging: fit only ids matching these
wanted <- function(id) !length(only) || any(vapply(only, grepl, TRUE, x = id))

## ---------------------------------------------- optimizer used by lme4 ----
POL <- new.env(); POL$parscale <- NULL
polish_opt <- function(fn, par, lower, upper, control) {
  ps <- POL$parscale; if (is.null(ps)) ps <- rep(1, length(par))
  f <- function(p) { v <- try(fn(p * ps), silent = TRUE); if (is.numeric(v) && is.finite(v)) v else 1e300 }
  lo <- lower / ps; lo[is.nan(lo)] <- -Inf
  best <- list(par = par / ps, fval = f(par / ps)); t0 <- system.time(for (i in 1:2) f(best$par))[3] / 2
  take <- function(r) { if (is.list(r) && all(is.finite(r$par)) && r$fval < best$fval - 1e-13 * abs(best$fval)) { best <<- list(par = r$par, fval = r$fval); TRUE } else FALSE }
  run_nl <- function(p) try(nloptwrap(p, f, lower = lo, upper = rep(Inf, length(p)), control = list(xtol_abs = 1e-10, ftol_abs = 1e-12, maxeval = 1e5)), silent = TRUE)
  run_bq <- function(p, rb = 0.05) try({ o <- minqa::bobyqa(pmax(p, lo), f, lower = lo, upper = rep(Inf, length(p)), control = list(rhobeg = rb, rhoend = 1e-9, maxfun = 1e5)); list(par = o$par, fval = o$fval) }, silent = TRUE)
  isdiag <- lo == 0
  take(run_nl(best$par)); take(run_bq(best$par))
  if (t0 < 0.05) {                       # several other starts when the criterion is cheap
    set.seed(20); st <- par / ps
    for (k in seq_len(if (length(par) > 10) 1 else 3)) { s <- ifelse(isdiag, exp(runif(length(st), -2, 0.7)), rnorm(length(st), 0, 0.2))
      if (!is.null(POL$nfix) && POL$nfix > 0) { i <- length(st) - POL$nfix + seq_len(POL$nfix); s[i] <- best$par[i] }
      r <- run_nl(s); if (is.list(r)) { r2 <- run_bq(r$par); take(r); take(r2) } }
  } else if (t0 < 1) { r <- run_bq(pmax(best$par * 1.1, lo)); take(r) }
  for (i in which(isdiag & best$par < 1e-3)) {  # is the boundary really the optimum?
    p <- best$par; p[i] <- 0; v <- f(p); if (v <= best$fval + 1e-9 && best$par[i] < 1e-4) best <- list(par = p, fval = v) }
  free <- which(!(isdiag & best$par == 0))
  gfun <- function(p, idx) numDeriv::grad(function(q) { z <- p; z[idx] <- q; f(z) }, p[idx], method.args = list(d = 1e-3, r = 4))
  hfun <- function(p, idx) numDeriv::hessian(function(q) { z <- p; z[idx] <- q; f(z) }, p[idx], method.args = list(d = 1e-2, r = 4))
  H <- NULL; g <- NULL
  if (length(free)) {
    H <- try(hfun(best$par, free), silent = TRUE); g <- gfun(best$par, free)
    for (it in 1:6) {
      if (inherits(H, "try-error") || any(!is.finite(H))) break
      e <- eigen((H + t(H)) / 2, symmetric = TRUE); keep <- e$values > 1e-6 * max(e$values)
      step <- -drop(e$vectors[, keep, drop = FALSE] %*% (crossprod(e$vectors[, keep, drop = FALSE], g) / e$values[keep]))
      p <- best$par; p[free] <- p[free] + step; if (any(p < lo) || max(abs(step)) > 0.1) break
      v <- f(p); g2 <- gfun(p, free)
      if (v <= best$fval + 1e-10 * (1 + abs(best$fval)) * 1e-2 && max(abs(g2)) < max(abs(g))) { best <- list(par = p, fval = v); stop_ <- max(abs(g2)) > 0.5 * max(abs(g)); g <- g2; if (stop_ || max(abs(step)) < 1e-11) break } else break
    }
  }
  gb <- if (any(!(seq_along(lo) %in% free))) vapply(setdiff(seq_along(lo), free), function(i) { h <- 1e-3; p <- best$par; p[i] <- h; (f(p) - f(best$par)) / h }, 0) else numeric()
  POL$info <- list(grad_free_max = if (length(free)) max(abs(g)) else 0, n_boundary = length(lo) - length(free),
    boundary_slope_min = if (length(gb)) min(gb) else NULL,
    hess_min_eig = if (!is.null(H) && !inherits(H, "try-error")) min(eigen((H + t(H)) / 2, TRUE, TRUE)$values) else NULL)
  POL$H <- H; POL$free <- free; POL$par <- best$par
  f(best$par)
  list(par = best$par * ps, fval = best$fval, conv = 0, message = "polished", feval = NA)
}

## ------------------------------------------------------- shared extracts ----
varcorr_list <- function(m) { v <- as.data.frame(VarCorr(m)); vn <- names(VarCorr(m)); gn <- names(m@cnms); ti <- match(v$grp, vn)
  arr(lapply(seq_len(nrow(v)), function(i) list(grp = v$grp[i], group = if (is.na(ti[i])) NULL else gn[ti[i]], term = if (is.na(ti[i])) NULL else ti[i] - 1L, var1 = if (is.na(v$var1[i])) NULL else v$var1[i],
    var2 = if (is.na(v$var2[i])) NULL else v$var2[i], vcov = v$vcov[i], sdcor = v$sdcor[i]))) }
named <- function(l) { if (length(l)) l else setNames(list(), character()) }
nullable <- function(l) { l }      # lists built with list(a = NULL) keep the entry
ranef_blocks <- function(m, form, d, cond = TRUE) {
  re <- catch(ranef(m, condVar = cond))$value
  if (inherits(re, "try-error")) { re <- ranef(m, condVar = FALSE); cond <- FALSE }
  map <- ranef_py(form, d); b <- list(); s <- list()
  for (g in names(re)) { x <- as.matrix(re[[g]]); n <- nrow(x); k <- if (n > 500) 20 else n
    mp <- map[[gsub(" ", "", g)]]; if (is.null(mp)) mp <- unlist(unname(map))
    cp <- unname(mp[colnames(x)]); cp[is.na(cp)] <- colnames(x)[is.na(cp)]
    base <- list(columns = arr(colnames(x)), columns_py = arr(cp), n_levels = n, truncated = k < n, levels = arr(rownames(x)[seq_len(k)]))
    b[[g]] <- c(base, list(values = arr(unname(x[seq_len(k), , drop = FALSE])), col_sumsq = arr(colSums(x^2))))
    if (cond) { pv <- attr(re[[g]], "postVar"); if (!is.list(pv)) pv <- list(pv)
      sd <- do.call(cbind, lapply(pv, function(a) matrix(sqrt(pmax(0, apply(a, 3, diag))), nrow = dim(a)[3], byrow = TRUE)))
      stopifnot(nrow(sd) == n, ncol(sd) == ncol(x))
      s[[g]] <- c(base, list(values = arr(sd[seq_len(k), , drop = FALSE]))) } }
  list(ranef = named(b), sd = if (length(s)) s else NULL)
}
new_rows <- function(m, form, d, extra = NULL) {
  mfv <- unique(c(all.vars(delete.response(terms(nobars(form)))), unlist(lapply(findbars(form), all.vars)), extra))
  dd <- d[as.integer(rownames(model.frame(m))), , drop = FALSE]; n <- nrow(dd)
  nd <- dd[c(1, (n + 1) %/% 2, n, 1, n, n), mfv, drop = FALSE]; rownames(nd) <- NULL
  ## mix: row 2 takes the covariates of the last row
  fx <- unique(c(all.vars(delete.response(terms(nobars(form)))), unlist(lapply(findbars(form), function(b) all.vars(b[[2]])))))
  for (v in intersect(fx, mfv)) nd[2, v] <- nd[3, v]
  gv <- setdiff(unlist(lapply(findbars(form), function(b) all.vars(b[[3]]))), fx); gv <- unique(gv)
  for (g in gv) { lv <- levels(dd[[g]]); nd[[g]] <- factor(as.character(nd[[g]]), levels = c(lv, "NEW")) }
  inner <- gv[which.max(vapply(gv, function(g) nlevels(droplevels(dd[[g]])), 0))]
  nd[4, inner] <- "NEW"; for (g in gv) nd[5, g] <- "NEW"
  if (length(gv) > 1) nd[6, setdiff(gv, inner)[1]] <- "NEW" else nd <- nd[-6, , drop = FALSE]
  nd
}
rows_json <- function(nd) arr(lapply(seq_len(nrow(nd)), function(i) lapply(as.list(nd[i, , drop = FALSE]), function(v) if (is.factor(v)) as.character(v) else v)))
wald_ci <- function(b, se) { z <- qnorm(0.975); arr(lapply(seq_along(b), function(i) list(parm = names(b)[i], lo = unname(b[i] - z * se[i]), hi = unname(b[i] + z * se[i])))) }
mat <- function(x) arr(unname(as.matrix(x)))
save_model <- function(o) { dir.create(file.path(OUT, "models"), recursive = TRUE, showWarnings = FALSE); write_json(o, file.path(OUT, "models", paste0(o$id, ".json"))) }
