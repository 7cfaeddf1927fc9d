# The models that glmmTMB fits by Laplace, lme4 beside it; quadrature by the plain code of likelihoods.R, called own.R in the records.
suppressMessages({library(glmmTMB); library(emmeans)})
ENGINE_TMB <- sprintf("glmmTMB %s", packageVersion("glmmTMB")); ENGINE_OWN <- "own.R (plain R likelihood)"
done <- function(ids) Sys.getenv('REF_SKIP') != '' && all(file.exists(file.path(OUT, 'models', paste0(ids, '.json'))))
qs <- function(x) { x <- unname(x); if (is.null(x) || !length(x)) NULL else x }
fam_of <- function(s) { f <- fam_of_(s); if (is.function(f)) f() else f }
fam_of_ <- function(s) eval(parse(text = s), list2env(list(binomial = stats::binomial, poisson = stats::poisson, Gamma = stats::Gamma, nbinom1 = glmmTMB::nbinom1, nbinom2 = glmmTMB::nbinom2, beta = glmmTMB::beta_family, betabinomial = glmmTMB::betabinomial, tweedie = glmmTMB::tweedie,
  truncated_poisson = glmmTMB::truncated_poisson, truncated_nbinom2 = glmmTMB::truncated_nbinom2, truncated_nbinom1 = glmmTMB::truncated_nbinom1, inverse.gaussian = stats::inverse.gaussian), parent = globalenv()))
DISPDEF <- c(nbinom2 = "Var = mu (1 + mu / phi)", nbinom1 = "Var = mu (1 + phi)", Gamma = "Var = sigma^2 mu^2 (shape = 1 / sigma^2); value is sigma", beta = "Var = mu (1 - mu) / (1 + phi)", betabinomial = "alpha = mu phi, beta = (1 - mu) phi; Var(k) = n mu (1 - mu) (phi + n) / (phi + 1)", tweedie = "Var = phi mu^power",
  truncated_nbinom2 = "untruncated Var = mu (1 + mu / phi)", truncated_nbinom1 = "untruncated Var = mu (1 + phi)", inverse.gaussian = "Var = phi mu^3")
repolish <- function(m) {                                     # Newton on TMB's own objective; the glmmTMB object is updated in place
  o <- m$obj; ini <- m$fit$par; v0 <- m$fit$objective
  o$env$inner.control$tol <- 1e-12
  alt <- c(); for (op in c("BFGS")) { s <- ini * 0 + ini * 0.8 + 0.05
    r <- try(suppressWarnings(if (op == "BFGS") { z <- optim(s, o$fn, o$gr, method = "BFGS", control = list(maxit = 2000, reltol = 1e-14)); c(z$value) } else { z <- nlminb(s, o$fn, o$gr, control = list(iter.max = 2000, eval.max = 2000, rel.tol = 1e-14)); c(z$objective) }), silent = TRUE)
    if (!inherits(r, "try-error")) { alt[op] <- r; if (r < v0 - 1e-6) { ini[] <- z$par; v0 <- r } } }
  r <- newton(function(p) { v <- o$fn(p); if (is.finite(v)) as.numeric(v) else 1e10 }, ini, gr = function(p) as.vector(o$gr(p)))
  H <- r$H; dimnames(H) <- dimnames(m$sdr$cov.fixed); m$fit$par[] <- r$par; m$fit$objective <- as.numeric(o$fn(r$par)); pf <- o$env$last.par; names(pf) <- names(m$fit$parfull); m$fit$parfull <- pf
  m$sdr <- TMB::sdreport(o, par.fixed = m$fit$par, hessian.fixed = H, getJointPrecision = FALSE); dimnames(m$sdr$cov.fixed) <- dimnames(H)
  e <- eigen(H, symmetric = TRUE, only.values = TRUE)$values
  list(m = m, info = list(grad_free_max = max(abs(r$grad)), hess_min_eig = min(e), hess_max_eig = max(e), newton_iterations = r$iter, loglik_other_starts_minus_best = as.list(-(alt - m$fit$objective))), H = H) }
re_build <- function(form, d, m) {                            # lme4's Zt / Lambdat for the same bars, theta from glmmTMB's covariance matrices
  fl <- as.formula(paste("..y ~ 1 +", paste(vapply(findbars(form), function(b) paste0("(", deparse(b, 500), ")"), ""), collapse = " + "))); d$..y <- seq_len(nrow(d)) * 1.0
  lf <- lme4::lFormula(fl, d, control = lmerControl(check.nobs.vs.nRE = "ignore", check.nobs.vs.nlev = "ignore", check.nlev.gtr.1 = "ignore", check.nobs.vs.rankZ = "ignore")); lf$reTrms }
theta_from_G <- function(rt, G) { th <- numeric(0); used <- integer(0)   # G: list of named covariance matrices with group names
  for (i in seq_along(rt$cnms)) { k <- which(names(G) == names(rt$cnms)[i] & vapply(G, function(g) identical(rownames(g), rt$cnms[[i]]), TRUE)); k <- setdiff(k, used)[1]; used <- c(used, k); L <- t(chol(G[[k]] + diag(1e-300, nrow(G[[k]])))); th <- c(th, L[lower.tri(L, TRUE)]) }; th }
set_L <- function(rt, th) { L <- rt$Lambdat; L@x[] <- th[rt$Lind]; L }
G_list <- function(m, part = "cond") { v <- VarCorr(m)[[part]]; nm <- sub("\\.[0-9]+$", "", names(v)); setNames(lapply(v, function(x) { y <- matrix(as.numeric(x), nrow(x), dimnames = list(rownames(x), rownames(x))); y }), names(m$modelInfo$grpVar %||% nm)) }
`%||%` <- function(a, b) if (is.null(a)) b else a
vc_rows <- function(G, comp = NULL) { o <- list(); for (t in seq_along(G)) { S <- G[[t]]; s <- sqrt(diag(S)); k <- nrow(S)
  for (i in seq_len(k)) o <- c(o, list(list(grp = names(G)[t], group = names(G)[t], term = t - 1L, var1 = rownames(S)[i], var2 = NULL, vcov = S[i, i], sdcor = unname(s[i]))))
  if (k > 1) for (i in 1:(k - 1)) for (j in (i + 1):k) o <- c(o, list(list(grp = names(G)[t], group = names(G)[t], term = t - 1L, var1 = rownames(S)[i], var2 = rownames(S)[j], vcov = S[i, j], sdcor = unname(S[i, j] / s[i] / s[j])))) }; o }
re_blocks <- function(rt, b, Hinv_sd, d) {                   # b: vector in reTrms order
  out <- list(); sds <- list(); k <- 0
  for (i in seq_along(rt$cnms)) { g <- names(rt$cnms)[i]; lv <- levels(rt$flist[[attr(rt$flist, "assign")[i]]]); nc <- length(rt$cnms[[i]]); n <- length(lv); M <- matrix(b[k + seq_len(n * nc)], ncol = nc, byrow = TRUE); S <- matrix(Hinv_sd[k + seq_len(n * nc)], ncol = nc, byrow = TRUE); k <- k + n * nc
    nr <- if (n > 500) 20 else n; key <- g; if (!is.null(out[[key]])) { out[[key]]$M <- cbind(out[[key]]$M, M); sds[[key]]$M <- cbind(sds[[key]]$M, S); out[[key]]$cn <- sds[[key]]$cn <- c(out[[key]]$cn, rt$cnms[[i]]) } else { out[[key]] <- list(M = M, cn = rt$cnms[[i]], lv = lv, nr = nr); sds[[key]] <- list(M = S, cn = rt$cnms[[i]], lv = lv, nr = nr) } }
  pyc <- function(cn) { o <- cn; o[o == "(Intercept)"] <- "Intercept"; for (v in names(d)) if (is.factor(d[[v]])) for (l in levels(d[[v]])) o[o == paste0(v, l)] <- paste0(v, "[T.", l, "]"); o }
  fm <- function(x) lapply(x, function(z) list(columns = arr(z$cn), columns_py = arr(pyc(z$cn)), n_levels = nrow(z$M), truncated = z$nr < nrow(z$M), levels = arr(z$lv[seq_len(z$nr)]), values = arr(z$M[seq_len(z$nr), , drop = FALSE]), col_sumsq = arr(colSums(z$M^2))))
  list(ranef = named(fm(out)), sd = fm(sds)) }
fx_rows <- function(b, V, pyn = NULL) { se <- sqrt(diag(V)); z <- b / se; arr(lapply(seq_along(b), function(i) c(list(name = names(b)[i]), if (!is.null(pyn)) list(name_py = unname(pyn[i])), list(estimate = unname(b[i]), se = unname(se[i]), z = unname(z[i]), p = unname(2 * pnorm(-abs(z[i]))))))) }
tab_rows <- function(x) { x <- as.data.frame(x); names(x) <- gsub("[.]", "_", names(x)); arr(lapply(seq_len(nrow(x)), function(i) { r <- as.list(x[i, , drop = FALSE]); r <- lapply(r, function(v) if (is.factor(v)) as.character(v) else v); r[!vapply(r, function(v) is.numeric(v) && is.infinite(v), TRUE)] })) }
emm_block <- function(m, em, d) { f <- as.formula(paste("~", em)); e <- catch(suppressMessages(emmeans(m, f, data = d)))$value; if (inherits(e, "try-error")) return(list(error = as.character(e)))
  em <- trimws(em); L <- as.data.frame(summary(e, type = "link")); R <- as.data.frame(summary(e, type = "response"))
  pl <- as.data.frame(summary(pairs(e, adjust = "none"), infer = c(TRUE, TRUE))); pr <- as.data.frame(summary(pairs(e, adjust = "none"), type = "response", infer = c(TRUE, TRUE))); pt <- as.data.frame(summary(pairs(e, adjust = "tukey"), infer = c(FALSE, TRUE)))
  list(specs = em, note = "factors not named are averaged with equal weights, numeric covariates at their mean over the data used; limits and p-values use t with the residual df in column df (emmeans' choice for glmmTMB fits; z elsewhere), so compare estimate and SE first", link = tab_rows(L), response = tab_rows(R), pairs_link = tab_rows(pl), pairs_response = tab_rows(pr), pairs_tukey_p = arr(pt$p.value)) }
prof_ci <- function(o, par, vmin, idx, level = 0.95) {      # exact profile of TMB's objective over one parameter
  f <- function(j, v, start) { k <- setdiff(seq_along(par), j); fn <- function(q) { p <- par; p[j] <- v; p[k] <- q; as.numeric(o$fn(p)) }; gr <- function(q) { p <- par; p[j] <- v; p[k] <- q; as.vector(o$gr(p))[k] }
    if (!length(k)) return(list(v = fn(numeric(0)), q = numeric(0))); z <- nlminb(start, fn, gr, control = list(rel.tol = 1e-13, iter.max = 500)); list(v = z$objective, q = z$par) }
  q95 <- qchisq(level, 1); H <- NULL
  lapply(idx, function(j) vapply(c(-1, 1), function(s) { k <- setdiff(seq_along(par), j); st <- par[k]; g <- function(t) { z <- f(j, par[j] + s * t, st); sqrt(max(0, 2 * (z$v - vmin))) - sqrt(q95) }
    up <- 0.05; while (g(up) < 0 && up < 50) up <- up * 1.6; if (up >= 50) return(NA_real_); par[j] + s * uniroot(g, c(up / 1.6 * (up > 0.05), up), tol = 1e-9)$root }, 0)) }
lme4_block <- function(form, d, famstr, wts, nAGQ = 1, start, def = TRUE) {   # lme4's answer, tightened
  assign(".d", d, globalenv()); assign(".fam", fam_of(famstr), globalenv()); assign(".nq", nAGQ, globalenv()); assign(".form", form, globalenv()); fam <- get(".fam", globalenv())$family
  mk <- function(ctl, st = NULL) { cl <- quote(lme4::glmer(.form, data = .d, family = .fam, nAGQ = .nq)); if (!is.null(wts)) cl$weights <- as.name(wts); if (!is.null(ctl)) { assign(".ctl", ctl, globalenv()); cl$control <- quote(.ctl) }; if (!is.null(st)) { assign(".st", st, globalenv()); cl$start <- quote(.st) }; catch(eval(cl, globalenv())) }
  dflt <- if (def) mk(NULL) else NULL; disp <- fam %in% c("Gamma", "inverse.gaussian")
  light <<- function(fn, par, lower, upper, control) { lo <- lower; f <- function(p) { v <- try(fn(p), silent = TRUE); if (is.numeric(v) && is.finite(v)) v else 1e300 }
    z <- minqa::bobyqa(pmax(par, lo), f, lower = lo, upper = rep(Inf, length(par)), control = list(rhobeg = 0.02, rhoend = 1e-8, maxfun = 2e4)); r <- if (disp) list(par = z$par, value = z$fval, grad = NA, H = NULL) else newton(f, z$par); if (r$value > z$fval + 1e-7) r <- list(par = z$par, value = z$fval, grad = r$grad, H = r$H)
    LIGHT <<- r; f(r$par); list(par = r$par, fval = r$value, conv = 0, message = "", feval = NA) }
  for (tol in if (disp) c(1e-10, 1e-8, 1e-7) else c(1e-13, 1e-11, 1e-10, 1e-9)) { r <- mk(glmerControl(optimizer = c("bobyqa", "light"), tolPwrss = tol, calc.derivs = FALSE, check.conv.singular = "ignore"), start); if (!inherits(r$value, "try-error") && (disp || (is.numeric(LIGHT$grad) && max(abs(LIGHT$grad)) < 1e-4))) break }
  m <- r$value; if (inherits(m, "try-error")) { if (!is.null(dflt) && !inherits(dflt$value, "try-error")) { m <- dflt$value; tol <- 1e-7; LIGHT <<- list(grad = NA) } else return(list(error = trimws(as.character(m)))) }
  b <- fixef(m); Vrx <- suppressWarnings(as.matrix(vcov(m, use.hessian = FALSE))); V <- NULL; nt <- length(getME(m, "theta")); if (!is.null(LIGHT$H)) { S <- try(2 * solve(LIGHT$H), silent = TRUE); if (!inherits(S, "try-error")) V <- S[-(1:nt), -(1:nt), drop = FALSE] }
  satll <- if (nAGQ > 1) -(m@resp$aic() - sum(m@resp$devResid())) / 2 else 0; ll <- as.numeric(logLik(m)); re <- ranef(m, condVar = TRUE)
  list(engine = ENGINE_GLMER, nAGQ = nAGQ, weights_in_curvature = if (fam_canon(get(".fam", globalenv()))) "canonical link: observed = expected" else "expected (Fisher) weights: differs from the observed Hessian for a non-canonical link",
    estimates = arr(unname(b)), se_hessian = if (is.null(V)) NULL else arr(sqrt(diag(V))), se_rx = arr(unname(sqrt(diag(Vrx)))), theta = arr(unname(getME(m, "theta"))), sigma = if (disp) sigma(m) else NULL, varcorr = varcorr_list(m), loglik = ll, loglik_with_constants = ll + satll, aic = AIC(m), bic = BIC(m), df_model = attr(logLik(m), "df"),
    ranef_first = lapply(re, function(x) arr(unname(as.matrix(head(x, 5))))), fitted_head = arr(unname(head(fitted(m), 10))), gradient_max = if (disp) NULL else max(abs(LIGHT$grad)), tolPwrss = tol, default_loglik = if (is.null(dflt) || inherits(dflt$value, "try-error")) NULL else as.numeric(logLik(dflt$value)), default_messages = if (is.null(dflt)) arr(list()) else arr(as.list(dflt$notes)), messages = arr(as.list(r$notes))) }
fam_canon <- function(f) (f$family == "binomial" && f$link == "logit") || (f$family == "poisson" && f$link == "log") || (f$family == "Gamma" && f$link == "inverse") || (f$family == "inverse.gaussian" && f$link == "1/mu^2")

fit_tmb <- function(id, formula, data, family, ziformula = "~0", dispformula = "~1", weights = NULL, offset = NULL, response = NULL, exercises = "", em = NULL, drop = NULL, agq = NULL, profile = FALSE, lme4 = NULL, own = TRUE, formula_py = NULL, note = NULL) {
  rid <- paste0(id, "__laplace"); if (!wanted(id)) return(invisible()); if (done(c(rid, if (length(agq)) paste0(id, "__agq", agq)))) return(invisible()); t0 <- proc.time()[3]
  form <- as.formula(formula, env = globalenv()); if (grepl("||", formula, fixed = TRUE)) { form <- lme4::expandDoubleVerts(form); environment(form) <- globalenv() }; d <- load_data(data); assign(".d", d, globalenv()); fam <- fam_of(family); link <- fam$link; fname <- fam$family; zi <- ziformula != "~0"; trunc <- grepl("^truncated", fname)
  formF <- if (is.null(offset)) form else update(form, as.formula(paste0(". ~ . + offset(", offset, ")")))
  mk <- function(f, zif = ziformula, start = NULL) { cl <- call("glmmTMB", formula = f, data = quote(.d), family = fam, ziformula = as.formula(zif, env = globalenv()), dispformula = as.formula(dispformula, env = globalenv()), control = glmmTMBControl(optCtrl = list(iter.max = 2000, eval.max = 2000))); if (!is.null(weights)) cl$weights <- as.name(weights); catch(eval(cl, globalenv())) }
  r0 <- mk(formF); m <- r0$value; if (inherits(m, "try-error")) { logf("FAILED %s: %s", id, m); return(invisible()) }
  ll_default <- as.numeric(logLik(m)); rp <- repolish(m); m <- rp$m; info <- rp$info
  mf <- model.frame(m); rn <- as.integer(rownames(mf)); du <- droplevels(d[rn, , drop = FALSE]); N <- nrow(d); n <- length(rn)
  fe <- fixef(m); Vc <- vcov(m); b <- fe$cond; X <- model.matrix(nobars(form)[-2], du); pyn <- fixed_py(form, d, X); G <- setNames(G_list(m), names(m$modelInfo$reTrms$cond$cnms)); Gz <- if (length(m$modelInfo$reTrms$zi$cnms)) setNames(G_list(m, "zi"), names(m$modelInfo$reTrms$zi$cnms)) else list()
  sg <- if (fname %in% names(DISPDEF) && dispformula == "~1") sigma(m) else NULL; pw <- if (fname == "tweedie") unname(family_params(m)) else NULL
  offv <- if (is.null(offset)) 0 else du[[offset]]; eta0 <- drop(X %*% b) + offv
  Xd <- model.matrix(as.formula(dispformula), du); phi_rows <- if (fname %in% names(DISPDEF)) drop(exp(Xd %*% fe$disp)) else NULL; if (fname == "Gamma" && !is.null(phi_rows)) { phi_rows <- if (dispformula == "~1") rep(1 / sigma(m)^2, n) else phi_rows }
  zf <- as.formula(ziformula); pz <- if (zi) plogis(drop(model.matrix(nobars(zf), du) %*% fe$zi)) else NULL
  ## response and weights for the plain likelihood
  yr <- model.response(mf); if (fname %in% c("binomial", "betabinomial")) { if (is.matrix(yr)) { yy <- yr[, 1]; tr <- rowSums(yr) } else if (!is.null(weights)) { tr <- du[[weights]]; yy <- round(yr * tr, 8) } else { tr <- rep(1, n); yy <- if (is.factor(yr)) as.integer(yr) - 1 else as.numeric(yr) } } else { yy <- as.numeric(yr); tr <- if (is.null(weights)) rep(1, n) else du[[weights]] }
  base <- ll_family(fname, link); full <- with_zi(base, trunc); F_ <- mkf(full, fname, link, yy, tr, phi_rows, pw, pz)
  rt <- re_build(form, du, m); th <- theta_from_G(rt, G); singular <- any(vapply(G, function(S) { e <- eigen(cov2cor(S + diag(1e-14, nrow(S))), TRUE, TRUE)$values; min(e) < 1e-4 || min(diag(S)) < 1e-7 }, TRUE))
  lap <- NULL; chk <- NULL; own_ok <- own && !length(Gz)
  ownLap <- function(bb, thh, ph, pzz) laplace(mkf(full, fname, link, yy, tr, ph, pw, pzz), drop(X %*% bb) + offv, rt$Zt, set_L(rt, thh))
  if (own_ok) { lap <- laplace(F_, eta0, rt$Zt, set_L(rt, th)); chk <- list(loglik_own = lap$ll, difference_from_glmmTMB = lap$ll - as.numeric(logLik(m)), what = "the same Laplace likelihood coded plainly in R (own.R), at glmmTMB's estimates") }
  re <- ranef(m, condVar = TRUE); tmb_sd <- try(lapply(re$cond, function(x) { pv <- attr(x, "condVar"); if (is.list(pv)) pv <- pv[[1]]; v <- matrix(sqrt(apply(pv, 3, diag)), nrow = dim(pv)[3], byrow = TRUE); stopifnot(identical(dim(v), dim(x))); v }), silent = TRUE); if (inherits(tmb_sd, 'try-error')) { logf('  tmb condVar: %s', tmb_sd); tmb_sd <- list() }
  scalar <- length(rt$cnms) == 1 && length(rt$cnms[[1]]) == 1 && !length(Gz)
  if (own_ok) { Hi <- solve(lap$H); Lt <- set_L(rt, th); cs <- sqrt(diag(as.matrix(crossprod(Lt, Hi %*% Lt)))); blk <- re_blocks(rt, lap$b, cs, d)
    mx <- max(vapply(names(re$cond), function(g) { v <- blk$ranef[[g]]$values$x; max(abs(v - as.matrix(re$cond[[g]])[seq_len(nrow(v)), , drop = FALSE])) }, 0)); chk$max_ranef_difference <- mx }
  else { blk <- list(ranef = named(lapply(re$cond, function(x) { x <- as.matrix(x); k <- min(nrow(x), if (nrow(x) > 500) 20 else nrow(x)); list(columns = arr(colnames(x)), columns_py = arr(sub("(Intercept)", "Intercept", colnames(x), fixed = TRUE)), n_levels = nrow(x), truncated = k < nrow(x), levels = arr(rownames(x)[seq_len(k)]), values = arr(unname(x[seq_len(k), , drop = FALSE])), col_sumsq = arr(colSums(x^2))) })), sd = NULL) }
  tsd <- lapply(tmb_sd, function(x) arr(x[seq_len(if (nrow(x) > 500) 20 else nrow(x)), , drop = FALSE]))
  aq_check <- NULL; if (own_ok && scalar) { gi <- as.integer(rt$flist[[1]]); zc <- { zz <- rt$Zt; vapply(seq_len(n), function(i) zz[gi[i], i], 0) }
    aq_check <- lapply(c(1, 5, 9, 25, 75), function(q) list(nAGQ = q, loglik = agq(F_, eta0, zc, gi, th, q)$ll)) }
  ## points off the optimum
  dchk <- NULL; if (own_ok) { pts <- list(list(beta = b, th = th), list(beta = b, th = th * 1.25 + (if (length(th) == length(rt$cnms)) 0.1 else 0)), list(beta = 0.9 * b, th = th))
    dchk <- arr(lapply(pts, function(q) { v <- ownLap(q$beta, q$th, phi_rows, pz); list(beta = arr(unname(q$beta)), theta = arr(unname(q$th)), zi = if (zi) arr(unname(fe$zi)) else NULL, disp = if (!is.null(phi_rows)) arr(unname(fe$disp)) else NULL, loglik = v$ll) })) }
  ## predictions
  ndall <- new_rows_tmb(form, du, c(offset, all.vars(nobars(zf)), all.vars(as.formula(dispformula))), findbars(zf), weights)
  pr <- function(nd, type, pop) { r <- catch(predict(m, newdata = nd, type = type, re.form = if (pop) NA else NULL, allow.new.levels = TRUE))$value; if (inherits(r, "try-error")) stop(r); unname(r) }
  prn <- list(rows = rows_json(ndall), population_link = arr(pr(ndall, "link", TRUE)), conditional_link = arr(pr(ndall, "link", FALSE)), population = arr(pr(ndall, "response", TRUE)), conditional = arr(pr(ndall, "response", FALSE)))
  if (zi || trunc) prn <- c(prn, list(population_type_conditional = arr(pr(ndall, "conditional", TRUE)), conditional_type_conditional = arr(pr(ndall, "conditional", FALSE)), population_zprob = if (zi) arr(pr(ndall, "zprob", TRUE)) else NULL, conditional_zprob = if (zi) arr(pr(ndall, "zprob", FALSE)) else NULL))
  Xn <- model.matrix(delete.response(terms(nobars(form))), ndall, xlev = lapply(Filter(is.factor, d[intersect(names(d), all.vars(nobars(form)))]), levels)); lp <- drop(Xn %*% b) + if (is.null(offset)) 0 else ndall[[offset]]; stopifnot(max(abs(lp - prn$population_link$x)) < 1e-6)
  prn$population_link_se <- arr(unname(sqrt(rowSums((Xn %*% Vc$cond) * Xn))))
  fitv <- predict(m, type = "response"); linp <- predict(m, type = "link"); fit0 <- predict(m, type = "response", re.form = NA)
  ## likelihood-ratio test of a dropped term
  lrt <- NULL; if (!is.null(drop)) { f0 <- update(formF, as.formula(paste(". ~ . -", drop))); environment(f0) <- globalenv(); r1 <- mk(f0); if (!inherits(r1$value, "try-error")) { m0 <- repolish(r1$value); l0 <- as.numeric(logLik(m0$m)); l1 <- as.numeric(logLik(m)); df <- attr(logLik(m), "df") - attr(logLik(m0$m), "df"); if (!is.finite(l0)) l0 <- -m0$m$fit$objective
      lrt <- list(dropped = drop, loglik_full = l1, loglik_reduced = l0, chisq = 2 * (l1 - l0), df = df, p = pchisq(2 * (l1 - l0), df, lower.tail = FALSE), grad_reduced = m0$info$grad_free_max) } }
  emm <- if (!is.null(em)) lapply(em, function(e) emm_block(m, e, d)) else NULL
  pci <- NULL; if (profile) { pn <- names(m$fit$par); nm <- character(length(pn)); nm[pn == "beta"] <- names(b); nm[pn == "betad"] <- paste0("disp_", names(fe$disp)); nm[pn == "betazi"] <- paste0("zi_", names(fe$zi)); nm[pn == "theta"] <- if (sum(pn == "theta") == length(unlist(rt$cnms))) paste0("sd_", unlist(lapply(m$modelInfo$reTrms$cond$cnms, identity)), "|", rep(names(m$modelInfo$reTrms$cond$cnms), lengths(m$modelInfo$reTrms$cond$cnms))) else ""
    idx <- which(pn %in% c("beta", "betazi", "betad") | (pn == "theta" & grepl("^sd_", nm))); ci <- prof_ci(m$obj, m$fit$par, m$fit$objective, idx); m$obj$fn(m$fit$par)
    pci <- arr(lapply(seq_along(idx), function(k) { v <- ci[[k]]; if (pn[idx[k]] == "theta") v <- exp(v); list(parm = nm[idx[k]], lo = v[1], hi = v[2]) })) }
  ci <- function(bb, V) wald_ci(bb, sqrt(diag(V)))
  used <- intersect(unique(c(all.vars(form), all.vars(zf), all.vars(as.formula(dispformula)))), names(SPEC[[data]]$levels))
  use_lme4 <- if (is.null(lme4)) fname %in% c("binomial", "poisson", "Gamma") && !zi && dispformula == "~1" else lme4
  l4 <- if (use_lme4) lme4_block(formF, d, family, weights, 1, list(theta = unname(th), fixef = b)) else NULL
  H <- rp$H; pnm <- names(m$fit$par); ll <- as.numeric(logLik(m))
  o <- list(id = rid, engine = ENGINE_TMB, family = fname, link = link, nAGQ = 1, method = "Laplace (exact second derivatives)", formula = formula, formula_py = formula_py %||% py_formula(formula), ziformula = if (zi) ziformula else NULL, dispformula = if (dispformula != "~1") dispformula else NULL)
  o <- c(o, list(response = response, data = SPEC[[data]]$file, factors = named(setNames(lapply(used, function(v) arr(SPEC[[data]]$levels[[v]])), used)), weights = weights, offset = offset, REML = NULL, nobs = n, n_rows_data = N, na_rows_dropped = N - n, ngrps = lapply(rt$flist, nlevels),
    fixef = fx_rows(b, Vc$cond, pyn), vcov = mat(Vc$cond), zi = if (zi) list(fixef = fx_rows(fe$zi, Vc$zi), vcov = mat(Vc$zi), link = "logit", varcorr = if (length(Gz)) arr(vc_rows(Gz)) else NULL) else NULL,
    dispersion = if (fname %in% names(DISPDEF)) list(definition = DISPDEF[[fname]], value = sg, power = pw, fixef = if (dispformula != "~1") fx_rows(fe$disp, Vc$disp) else NULL, log_estimate = if (dispformula == "~1") unname(fe$disp) else NULL, log_se = if (dispformula == "~1") sqrt(solve(H)[which(pnm == "betad"), which(pnm == "betad")]) else NULL) else NULL,
    theta = arr(unname(th)), theta_note = "Cholesky factor of Cov(b) (not relative to a residual sd), lower triangle by columns, terms in the order of lme4", sigma = NULL, varcorr = arr(vc_rows(G)), loglik = ll, loglik_with_constants = ll, criterion = -2 * ll, aic = AIC(m), bic = BIC(m), df_model = attr(logLik(m), "df"),
    ranef = blk$ranef, ranef_cond_sd = blk$sd, ranef_cond_sd_joint = named(tsd), head_rows = arr(head(rn, 10) - 1L), fitted_head = arr(head(unname(fitv), 10)), linpred_head = arr(head(unname(linp), 10)), fitted_fixed_head = arr(head(unname(fit0), 10)),
    resid_head = arr(head(unname(as.numeric(residuals(m, type = "response"))), 10)), singular = singular, confint_wald = ci(b, Vc$cond), confint_profile = pci, emmeans = if (is.null(emm)) NULL else arr(emm), lrt = lrt, predict_new = prn, devfun_check = dchk, own_check = chk, agq_at_laplace_estimates = if (is.null(aq_check)) NULL else arr(aq_check),
    optcheck = c(info, list(loglik_glmmTMB_default_minus_best = ll_default - ll)), lme4 = l4, messages = arr(as.list(r0$notes)), exercises = exercises, note = note))
  save_model(o); add_index(rid, o$engine, formula, o$data, exercises, list(family = fname, link = link, nAGQ = 1, n = n, singular = singular)); write_index()
  logf("%-28s n=%d ll=%.8f grad=%.1e mineig=%.1e own-tmb=%.1e default-best=%.1e ranefdiff=%.1e lme4 dll=%s [%.0fs] %s", id, n, ll, info$grad_free_max, info$hess_min_eig, if (is.null(chk)) NA else chk$difference_from_glmmTMB, ll_default - ll, if (is.null(chk)) NA else chk$max_ranef_difference, if (is.null(l4)) "-" else if (is.null(l4$loglik)) l4$error else sprintf("%.2e dbeta=%.1e", l4$loglik - ll, max(abs(l4$estimates$x - b))), proc.time()[3] - t0, paste(substr(r0$notes, 1, 80), collapse = " | "))
  ## adaptive quadrature, estimated
  if (!is.null(agq)) { stopifnot(scalar, own_ok); gi <- as.integer(rt$flist[[1]]); p <- length(b); hasd <- !is.null(phi_rows); par0 <- c(b, log(th), if (hasd) fe$disp, if (zi) fe$zi); nd_ <- if (hasd) length(fe$disp) else 0; nz_ <- if (zi) length(fe$zi) else 0; Xz <- if (zi) model.matrix(nobars(zf), du)
    u0 <- rep(0, nlevels(rt$flist[[1]]))
    for (q in agq) fit_agq_own(paste0(id, "__agq", q), q, o, function(par) { bb <- par[1:p]; ph <- if (hasd) drop(exp(Xd %*% par[p + 1 + seq_len(nd_)])) else NULL; pzz <- if (zi) plogis(drop(Xz %*% par[p + 1 + nd_ + seq_len(nz_)])) else NULL; list(f = mkf(full, fname, link, yy, tr, ph, pw, pzz), eta0 = drop(X %*% bb) + offv, sd = exp(par[p + 1])) }, par0, p, zc, gi, names(b), pyn, levels(rt$flist[[1]]), names(rt$flist)[1], rt$cnms[[1]], link, fname, list(nd = nd_, nz = nz_, dn = names(fe$disp), zn = names(fe$zi)), exercises, form, ndall, Xn, offset, linkinv_(link), formF, d, family, weights) }
  invisible(o)
}
new_rows_tmb <- function(form, dd, extra = NULL, zbars = NULL, weights = NULL) {
  fx <- unique(c(all.vars(delete.response(terms(nobars(form)))), unlist(lapply(findbars(form), function(b) all.vars(b[[2]]))), extra)); gvs <- unique(unlist(lapply(c(findbars(form), zbars), function(b) all.vars(b[[3]])))); n <- nrow(dd)
  nd <- dd[c(1, (n + 1) %/% 2, n, 1, n, n), unique(c(fx, gvs, weights)), drop = FALSE]; rownames(nd) <- NULL; for (v in fx) nd[2, v] <- nd[3, v]
  gv <- setdiff(gvs, fx); for (g in gv) nd[[g]] <- factor(as.character(nd[[g]]), levels = c(levels(dd[[g]]), "NEW")); inner <- gv[which.max(vapply(gv, function(g) nlevels(dd[[g]]), 0))]
  nd[4, inner] <- "NEW"; for (g in gv) nd[5, g] <- "NEW"; if (length(gv) > 1) nd[6, setdiff(gv, inner)[1]] <- "NEW" else nd <- nd[-6, , drop = FALSE]; nd }
fit_agq_own <- function(rid, q, o, build, par0, p, zc, gi, bn, pyn, lev, grp, cn, link, fname, dims, exercises, form, nd, Xn, offset, inv, formF, d, family, weights) {
  t0 <- proc.time()[3]; u0 <- NULL; f <- function(par) { k <- build(par); a <- agq(k$f, k$eta0, zc, gi, k$sd, q, u0); v <- -2 * a$ll; if (is.finite(v)) { u0 <<- a$u; v } else 1e10 }
  r <- newton(f, par0); par <- r$par; V <- 2 * solve(r$H); b <- setNames(par[1:p], bn); k <- build(par); a <- agq(k$f, k$eta0, zc, gi, k$sd, q); hi <- agq(k$f, k$eta0, zc, gi, k$sd, 75)$ll; ll <- -r$value / 2; n <- o$nobs; df <- length(par)
  S <- matrix(k$sd^2, 1, 1, dimnames = list(cn, cn)); ran <- k$sd * a$u; csd <- k$sd * a$s; nr <- if (length(lev) > 500) 20 else length(lev); bk <- function(v) setNames(list(list(columns = arr(cn), columns_py = arr(sub("(Intercept)", "Intercept", cn, fixed = TRUE)), n_levels = length(lev), truncated = nr < length(lev), levels = arr(lev[seq_len(nr)]), values = arr(matrix(v[seq_len(nr)], ncol = 1)), col_sumsq = arr(sum(v^2)))), grp)
  lp <- drop(Xn %*% b) + if (is.null(offset)) 0 else nd[[offset]]; bm <- ran[match(as.character(nd[[grp]]), lev)]; bm[is.na(bm)] <- 0; eta <- k$eta0 + k$sd * a$u[gi] * zc
  l4 <- if (fname %in% c("binomial", "poisson") && dims$nd == 0 && dims$nz == 0) lme4_block(formF, d, family, weights, q, list(theta = k$sd, fixef = b), def = FALSE) else NULL
  ex <- function(j, nm) { list(fixef = fx_rows(setNames(par[j], nm), V[j, j, drop = FALSE])) }
  keep <- c("family", "link", "formula", "formula_py", "ziformula", "dispformula", "response", "data", "factors", "weights", "offset", "nobs", "n_rows_data", "na_rows_dropped", "ngrps", "head_rows")
  out <- c(list(id = rid, engine = ENGINE_OWN, nAGQ = q, method = "adaptive Gauss-Hermite, nodes centred at the mode and scaled by the observed second derivative"), o[keep],
    list(fixef = fx_rows(b, V[1:p, 1:p, drop = FALSE], pyn), vcov = mat(V[1:p, 1:p, drop = FALSE]), theta = arr(unname(k$sd)), log_theta_se = sqrt(V[p + 1, p + 1]), varcorr = arr(vc_rows(setNames(list(S), grp))), dispersion = if (dims$nd) c(list(definition = DISPDEF[[fname]], note = "fixef: log scale; Gamma here: log shape"), ex(p + 1 + seq_len(dims$nd), dims$dn)) else NULL, zi = if (dims$nz) ex(p + 1 + dims$nd + seq_len(dims$nz), dims$zn) else NULL,
      loglik = ll, loglik_with_constants = ll, criterion = -2 * ll, aic = -2 * ll + 2 * df, bic = -2 * ll + log(n) * df, df_model = df, loglik_75_nodes_same_parameters = hi, ranef = bk(ran), ranef_cond_sd = bk(csd), linpred_head = arr(unname(head(eta, 10))), fitted_conditional_head = arr(unname(head(inv(eta), 10))),
      predict_new = list(rows = rows_json(nd), population_link = arr(unname(lp)), conditional_link = arr(unname(lp + bm)), population_conditional_mean = arr(unname(inv(lp))), conditional_mean = arr(unname(inv(lp + bm)))), optcheck = list(grad_free_max = max(abs(r$grad)), hess_min_eig = min(eigen(r$H, TRUE, TRUE)$values), newton_iterations = r$iter), lme4 = l4, exercises = exercises))
  save_model(out); add_index(rid, out$engine, o$formula, o$data, exercises, list(family = fname, link = link, nAGQ = q, n = n)); write_index()
  logf("   %-26s ll=%.8f (75: %.8f) grad=%.1e lme4 dll=%s [%.0fs]", rid, ll, hi, max(abs(r$grad)), if (is.null(l4)) "-" else if (is.null(l4$loglik)) l4$error else sprintf("%.2e dbeta=%.1e", l4$loglik_with_constants - ll, max(abs(l4$estimates$x - b))), proc.time()[3] - t0) }
