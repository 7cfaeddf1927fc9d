# Plain-R likelihoods used to check and sharpen what the packages give (no package's fitting code in here).
suppressMessages(library(Matrix))

## ---------------------------------------------------------------- GLMM: log density of one observation given eta ----
log1mexp <- function(a) ifelse(a > -0.693, log(-expm1(a)), log1p(-exp(a)))          # log(1 - exp(a)), a < 0
linkinv_ <- function(link) switch(link, logit = plogis, probit = pnorm, cloglog = function(e) -expm1(-exp(e)), log = exp, inverse = function(e) 1 / e, identity = identity, "1/mu^2" = function(e) 1 / sqrt(e), stop(link))
ll_binom <- function(link) function(y, eta, w) {                                        # y successes, w trials
  lp <- switch(link, logit = plogis(eta, log.p = TRUE), probit = pnorm(eta, log.p = TRUE), cloglog = log1mexp(-exp(eta)))
  lq <- switch(link, logit = plogis(-eta, log.p = TRUE), probit = pnorm(-eta, log.p = TRUE), cloglog = -exp(eta))
  lchoose(w, y) + ifelse(y > 0, y * lp, 0) + ifelse(w - y > 0, (w - y) * lq, 0) }
dinvgauss_ <- function(y, mu, disp) -0.5 * (log(2 * pi * disp * y^3) + (y - mu)^2 / (mu^2 * disp * y))
## exact first and second derivatives where they are short; for all other families derivs() differentiates numerically
d_family <- function(fam, link) { lam <- function(e) exp(dnorm(e, log = TRUE) - pnorm(e, log.p = TRUE))
  if (fam == "poisson" && link == "log") function(y, eta, w) { m <- exp(eta); list(d1 = w * (y - m), d2 = -w * m) }
  else if (fam == "binomial" && link == "logit") function(y, eta, w) { p <- plogis(eta); list(d1 = y - w * p, d2 = -w * p * (1 - p)) }
  else if (fam == "binomial" && link == "probit") function(y, eta, w) { a <- lam(eta); b <- lam(-eta); list(d1 = y * a - (w - y) * b, d2 = -y * a * (eta + a) - (w - y) * b * (b - eta)) }
  else if (fam == "binomial" && link == "cloglog") function(y, eta, w) { t <- exp(eta); a <- t / expm1(t); list(d1 = y * a - (w - y) * t, d2 = y * a * (1 - t - a) - (w - y) * t) }
  else if (fam == "nbinom2" && link == "log") NULL else NULL }
mkf <- function(full, fam, link, y, w, phi, x, pz) { f <- function(eta) full(y, eta, w, phi, x, pz); d <- if (is.null(pz)) d_family(fam, link); if (!is.null(d)) attr(f, "d") <- function(eta) d(y, eta, w); f }
## phi: vector or scalar "dispersion" as glmmTMB defines it; x: further parameters
ll_family <- function(fam, link) { inv <- linkinv_(link)
  switch(fam,
    binomial = { f <- ll_binom(link); function(y, eta, w, phi, x) f(y, eta, w) },
    poisson = function(y, eta, w, phi, x) w * dpois(y, inv(eta), log = TRUE),
    nbinom2 = function(y, eta, w, phi, x) w * dnbinom(y, size = phi, mu = inv(eta), log = TRUE),
    nbinom1 = function(y, eta, w, phi, x) w * dnbinom(y, size = inv(eta) / phi, mu = inv(eta), log = TRUE),
    Gamma = function(y, eta, w, phi, x) { m <- inv(eta); m[m <= 0] <- NA; w * dgamma(y, shape = phi, scale = m / phi, log = TRUE) },   # phi = shape = 1 / sigma^2
    inverse.gaussian = function(y, eta, w, phi, x) w * dinvgauss_(y, inv(eta), phi),                # phi = dispersion: Var = phi mu^3
    beta = function(y, eta, w, phi, x) { m <- inv(eta); w * dbeta(y, m * phi, (1 - m) * phi, log = TRUE) },
    betabinomial = function(y, eta, w, phi, x) { m <- inv(eta); a <- m * phi; b <- (1 - m) * phi; lchoose(w, y) + lbeta(y + a, w - y + b) - lbeta(a, b) },
    tweedie = function(y, eta, w, phi, x) w * ldtweedie_(y, inv(eta), x, phi),
    truncated_poisson = function(y, eta, w, phi, x) { m <- inv(eta); w * ifelse(y < 0.5, -Inf, dpois(y, m, log = TRUE) - log1mexp(-m)) },
    truncated_nbinom2 = function(y, eta, w, phi, x) { m <- inv(eta); w * ifelse(y < 0.5, -Inf, dnbinom(y, size = phi, mu = m, log = TRUE) - log1mexp(dnbinom(0, size = phi, mu = m, log = TRUE))) },
    truncated_nbinom1 = function(y, eta, w, phi, x) { m <- inv(eta); w * ifelse(y < 0.5, -Inf, dnbinom(y, size = m / phi, mu = m, log = TRUE) - log1mexp(dnbinom(0, size = m / phi, mu = m, log = TRUE))) },
    stop(fam)) }
ldtweedie_ <- function(y, mu, p, phi) {                # compound Poisson-gamma, summed directly
  lam <- mu^(2 - p) / (phi * (2 - p)); a <- (2 - p) / (p - 1); th <- phi * (p - 1) * mu^(p - 1)
  out <- -lam; pos <- which(y > 0); if (!length(pos)) return(out)
  yy <- y[pos]; l <- rep_len(lam, length(y))[pos]; t <- rep_len(th, length(y))[pos]
  nmax <- ceiling(max(l + yy / (a * t)) * 2 + 80 + 12 * sqrt(max(l))); k <- seq_len(nmax)
  M <- outer(log(l), k) - matrix(lgamma(k + 1), length(l), nmax, byrow = TRUE) + outer(log(yy), k * a - 1) - matrix(lgamma(k * a), length(l), nmax, byrow = TRUE) - outer(log(t), k * a)
  mx <- apply(M, 1, max); out[pos] <- -l - yy / t + mx + log(rowSums(exp(M - mx))); out }
with_zi <- function(f, trunc) function(y, eta, w, phi, x, pz) { if (is.null(pz)) return(f(y, eta, w, phi, x)); l <- f(y, eta, w, phi, x); lz <- log(pz); l1 <- log1p(-pz) + l
  if (trunc) ifelse(y < 0.5, lz, l1) else { m <- pmax(lz, l1); ifelse(y < 0.5, m + log(exp(lz - m) + exp(l1 - m)), l1) } }
## central differences of 8th order: first and second derivative with respect to eta, element by element
C1 <- c(1/280, -4/105, 1/5, -4/5, 0, 4/5, -1/5, 4/105, -1/280); C2 <- c(-1/560, 8/315, -1/5, 8/5, -205/72, 8/5, -1/5, 8/315, -1/560)
derivs <- function(f, eta, h = 0.02) { if (!is.null(a <- attr(f, 'd'))) return(a(eta)); d1 <- d2 <- 0; f0 <- NULL
  for (k in -4:4) { v <- f(eta + k * h); if (k == 0) f0 <- v; d1 <- d1 + C1[k + 5] * v; d2 <- d2 + C2[k + 5] * v }
  list(f = f0, d1 = d1 / h, d2 = d2 / h^2) }

## ------------------------------------------------------------------- Laplace with any sparse Z (b = Lambda u, u ~ N(0, I)) ----
laplace <- function(f, eta0, Zt, Lambdat, u0 = NULL) {       # f: eta -> log densities
  LtZt <- Lambdat %*% Zt; q <- nrow(LtZt); u <- if (is.null(u0)) rep(0, q) else u0
  obj <- function(u) { v <- -sum(f(eta0 + as.vector(crossprod(LtZt, u)))) + sum(u^2) / 2; if (is.finite(v)) v else Inf }
  cur <- obj(u)
  for (it in 1:200) { d <- derivs(f, eta0 + as.vector(crossprod(LtZt, u))); H <- tcrossprod(LtZt %*% Diagonal(x = -d$d2), LtZt) + Diagonal(q); g <- as.vector(LtZt %*% d$d1) - u
    ch <- try(Cholesky(forceSymmetric(H)), silent = TRUE)
    if (inherits(ch, "try-error")) { H <- tcrossprod(LtZt %*% Diagonal(x = pmax(-d$d2, 1e-8)), LtZt) + Diagonal(q); ch <- Cholesky(forceSymmetric(H)) }
    st <- as.vector(solve(ch, g)); a <- 1
    repeat { v <- obj(u + a * st); if (v <= cur + 1e-9 * (1 + abs(cur)) || a < 1e-8) break; a <- a / 2 }
    u <- u + a * st; cur <- v; if (max(abs(st)) < 1e-11) break }
  d <- derivs(f, eta0 + as.vector(crossprod(LtZt, u))); H <- tcrossprod(LtZt %*% Diagonal(x = -d$d2), LtZt) + Diagonal(q)
  ch <- Cholesky(forceSymmetric(H), LDL = FALSE); ld <- 2 * as.numeric(determinant(ch)$modulus)
  list(ll = -cur - ld / 2, u = u, H = H, b = as.vector(crossprod(Lambdat, u)), ld = ld, pen = sum(u^2), iter = it) }
## --------------------------------------------- one scalar random effect per group: adaptive Gauss-Hermite, observed curvature ----
GHQ <- new.env()
ghq <- function(n) { k <- as.character(n); if (is.null(GHQ[[k]])) { i <- seq_len(n - 1); J <- matrix(0, n, n); if (n > 1) { J[cbind(i, i + 1)] <- J[cbind(i + 1, i)] <- sqrt(i / 2) }
  e <- eigen(J, symmetric = TRUE); GHQ[[k]] <- list(x = e$values, w = e$vectors[1, ]^2 * sqrt(pi)) }; GHQ[[k]] }
agq <- function(f, eta0, z, g, sd, nq, u0 = NULL) {            # g integer group, z the column of the effect (1 for an intercept)
  G <- max(g); u <- if (is.null(u0)) rep(0, G) else u0; sz <- sd * z
  sumg <- function(v) { r <- rowsum(v, g); o <- numeric(G); o[as.integer(rownames(r))] <- r; o }
  hh <- function(u) sumg(f(eta0 + sz * u[g])) - u^2 / 2
  cur <- hh(u)
  for (it in 1:200) { d <- derivs(f, eta0 + sz * u[g]); g1 <- sumg(d$d1 * sz) - u; h1 <- pmax(1 - sumg(d$d2 * sz^2), 1e-6); st <- g1 / h1; a <- rep(1, G)
    for (k in 1:30) { v <- hh(u + a * st); bad <- !(v >= cur - 1e-9 * (1 + abs(cur))); bad[is.na(bad)] <- TRUE; if (!any(bad)) break; a[bad] <- a[bad] / 2 }
    u <- u + a * st; cur <- hh(u); if (!all(is.finite(st))) return(list(ll = NA_real_)); if (max(abs(st)) < 1e-11) break }
  d <- derivs(f, eta0 + sz * u[g]); s <- 1 / sqrt(1 - sumg(d$d2 * sz^2))
  if (nq == 1) return(list(ll = sum(cur + log(s)), u = u, s = s))
  q <- ghq(nq); T <- vapply(seq_len(nq), function(k) { uu <- u + sqrt(2) * s * q$x[k]; hh(uu) + q$x[k]^2 + log(q$w[k]) }, numeric(G)); T <- matrix(T, G)
  m <- apply(T, 1, max); list(ll = sum(m + log(rowSums(exp(T - m))) + log(s) - 0.5 * log(pi)), u = u, s = s) }

## ------------------------------------------------------------------------------ Newton polish of a smooth criterion ----
newton <- function(f, p, gr = NULL, maxit = 15, d1 = 1e-3, d2 = 1e-2, tol = 1e-8) {      # minimise f from p (already close); the Hessian is renewed only while steps are long
  G <- if (is.null(gr)) function(p) numDeriv::grad(f, p, method.args = list(d = d1, zero.tol = 1, eps = d1, r = 3)) else gr
  Hs <- if (is.null(gr)) function(p, r = 2) numDeriv::hessian(f, p, method.args = list(d = d2, zero.tol = 1, eps = d2, r = r)) else function(p, r = 2) { J <- numDeriv::jacobian(gr, p, method.args = list(d = d1, zero.tol = 1, eps = d1, r = r)); (J + t(J)) / 2 }
  cur <- f(p); g <- G(p); H <- NULL; last <- Inf; it <- 0
  while (it < maxit) { it <- it + 1; if (is.null(H) || last > 0.03) H <- Hs(p); e <- try(eigen(H, symmetric = TRUE), silent = TRUE); if (inherits(e, "try-error")) break
    st <- if (min(e$values) > 1e-9 * max(e$values)) solve(H, g) else drop(e$vectors %*% (crossprod(e$vectors, g) / pmax(abs(e$values), 1e-3)))
    a <- 1; repeat { v <- f(p - a * st); if (is.finite(v) && v <= cur + 1e-9) break; a <- a / 2; if (a < 1e-6) break }
    if (a < 1e-6) break
    p2 <- p - a * st; g2 <- G(p2); if (max(abs(g2)) >= max(abs(g)) && max(abs(st)) < 1e-5) break
    p <- p2; cur <- v; g <- g2; last <- max(abs(a * st)); if (last < tol) break }
  H <- Hs(p, 3)
  list(par = p, value = f(p), grad = g, H = H, iter = it) }

