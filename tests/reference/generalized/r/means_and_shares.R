# Bias-adjusted marginal means and R squared of generalised models:
#   Rscript means_and_shares.R > ../means_and_shares.json
# Models are glmmTMB's of ../models. emmeans 1.8.4: bias.adjust with sigma^2 the sum of the variances
# of the random intercepts. Observation-level variances by the formulas of Nakagawa, Johnson and
# Schielzeth (2017, J. R. Soc. Interface 14:20170213), written out; the model without predictors
# gives the mean.
suppressMessages({library(glmmTMB); library(emmeans); library(jsonlite)})
folder <- normalizePath(file.path(dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))), "..", "data"))
data <- function(name, ...) { d <- read.csv(file.path(folder, paste0(name, ".csv"))); for (f in c(...)) d[[f]] <- factor(d[[f]]); d }
tight <- glmmTMBControl(optCtrl = list(iter.max = 1e4, eval.max = 1e4, rel.tol = 1e-14, x.tol = 1e-12))
fit <- function(formula, d, family) glmmTMB(formula, d, family = family, control = tight)
variance <- function(m) sum(sapply(VarCorr(m)$cond, function(v) sum(diag(v))))
link_variance <- function(m) var(as.vector(model.matrix(m) %*% fixef(m)$cond))
r2 <- function(m, observation) {
  f <- link_variance(m); r <- variance(m); total <- f + r + observation
  data.frame(method = names(observation), observation = unname(observation), marginal = unname(f / total),
             conditional = unname((f + r) / total), icc = unname(r / (r + observation)))
}
log_mean <- function(null) exp(unname(fixef(null)$cond[1]) + 0.5 * variance(null))
means <- function(m, spec) summary(emmeans(m, spec), type = "response", bias.adjust = TRUE, sigma = sqrt(variance(m)))
out <- list()
keep <- function(name, m, spec, observation) out[[name]] <<- list(model = name, specs = spec, bias_adjusted =
  as.data.frame(means(m, spec))[, 1:3], sigma2 = variance(m), shares = r2(m, observation))

cbpp <- data("cbpp", "period", "herd")
for (link in c("logit", "probit", "cloglog")) {
  m <- fit(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, binomial(link))
  null <- fit(cbind(incidence, size - incidence) ~ 1 + (1 | herd), cbpp, binomial(link))
  b <- unname(fixef(null)$cond); v <- variance(null)
  p <- switch(link, logit = plogis(b - 0.5 * v * tanh(b * (1 + 2 * exp(-0.5 * v)) / 6)),
    probit = pnorm(b / sqrt(1 + v)),
    cloglog = integrate(function(z) (1 - exp(-exp(b + sqrt(v) * z))) * dnorm(z), -12, 12, rel.tol = 1e-10)$value)
  observation <- switch(link, logit = c(theoretical = pi^2 / 3, delta = 1 / (p * (1 - p))),
    probit = c(theoretical = 1, delta = 2 * pi * p * (1 - p) * exp((qnorm(p) / sqrt(2))^2)^2),
    cloglog = c(theoretical = pi^2 / 6, delta = p / log(1 - p)^2 / (1 - p)))
  keep(c(logit = "cbpp_prop__laplace", probit = "cbpp_probit__laplace", cloglog = "cbpp_cloglog__laplace")[[link]], m, "period", observation)
}
all_methods <- function(cv2) c(lognormal = log1p(cv2), delta = cv2, trigamma = trigamma(1 / cv2))
epil <- data("epil2", "trt", "subject")
for (family in c("nbinom1", "nbinom2")) {
  m <- fit(y ~ Base * trt + Age + Visit + (1 | subject), epil, family)
  mu <- log_mean(fit(y ~ 1 + (1 | subject), epil, family))
  keep(c(nbinom1 = "epil2_nb1__laplace", nbinom2 = "epil2_nb2__laplace")[[family]], m, "trt",
    all_methods(if (family == "nbinom1") (1 + sigma(m)) / mu else 1 / mu + 1 / sigma(m)))
}
cat(toJSON(out, auto_unbox = TRUE, digits = 15, pretty = TRUE), "\n")
