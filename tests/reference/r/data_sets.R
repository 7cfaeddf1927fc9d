# Make the data sets: copies of published tables, and simulated ones.
#
# Each entry gives a data frame whose columns are those of the CSV file. Ordered factors become
# unordered. A seed fixes each simulation; its draws are those of R's default generators.

published <- function(name, package = "lme4") {
  env <- new.env()
  utils::data(list = name, package = package, envir = env)
  as.data.frame(env[[name]])
}

rounded <- function(x, digits = 6) round(x, digits)
labels_of <- function(prefix, n) sprintf(paste0(prefix, "%02d"), seq_len(n))
number <- function(labels) as.integer(factor(labels))
normal_rows <- function(n, S) matrix(rnorm(n * ncol(S)), n) %*% chol(S)

# Kindergarten rows of the thirty schools of the smallest numbers.
star_k <- function() {
  d <- published("star", "mlmRev")
  d <- data.frame(lapply(d, function(v) if (is.factor(v)) as.character(v) else v))
  d <- d[d$gr == "K", ]
  schools <- sort(unique(as.integer(d$sch)))[1:30]
  d <- d[as.integer(d$sch) %in% schools, ]
  for (v in c("sch", "tch")) d[[v]] <- paste0(substr(v, 1, 1), d[[v]])
  d$cltype[d$cltype == "reg+A"] <- "regA"
  d[, c("sch", "tch", "sx", "cltype", "ses", "exp", "math", "read")]
}

# Forty subjects by 24 items by two conditions, crossed, with cells missing.
psych <- function(subjects, items) {
  set.seed(1)
  d <- expand.grid(cond = c("A", "B"), item = labels_of("i", 24), subj = labels_of("s", 40))
  b <- normal_rows(40, subjects)
  c <- normal_rows(24, items)
  x <- as.integer(d$cond == "B")
  s <- number(d$subj)
  i <- number(d$item)
  effects <- b[s, 1] + b[s, 2] * x + c[i, 1] + c[i, 2] * x
  d$y <- rounded(6 + 0.3 * x + effects + rnorm(nrow(d), 0, 0.8))
  d <- d[runif(nrow(d)) > 0.12 & !(d$item %in% c("i03", "i17") & s > 30)
         & !(d$subj == "s07" & x == 1 & i > 12), ]
  d[, c("subj", "item", "cond", "y")]
}

# Prior weights: the residual variance is 9 / w.
wtsim <- function() {
  set.seed(2)
  sizes <- sample(6:14, 24, TRUE)
  g <- rep(labels_of("g", 24), sizes)
  k <- number(g)
  n <- length(k)
  x <- rounded(rnorm(n), 4)
  w <- sample(1:30, n, TRUE)
  b <- normal_rows(24, matrix(c(1, 0.2, 0.2, 0.3), 2))
  y <- 2 + 0.5 * x + b[k, 1] + b[k, 2] * x + rnorm(n) * 3 / sqrt(w)
  data.frame(g = g, x = x, w = w, y = rounded(y))
}

offsim <- function() {
  set.seed(3)
  n <- 200
  g <- sample(labels_of("g", 18), n, TRUE)
  k <- number(g)
  x <- rounded(runif(n, -2, 2), 4)
  off <- rounded(rnorm(n, 5, 2), 4)
  y <- 1 + 0.7 * x + off + rnorm(18, 0, 0.8)[k] + rnorm(n)
  data.frame(g = g, x = x, off = off, y = rounded(y))
}

# Effects of a factor of three levels that vary by group, and its dummy variables.
facslope <- function() {
  set.seed(4)
  d <- expand.grid(rep = 1:5, f = c("lo", "mid", "hi"), g = labels_of("g", 30))
  d <- d[runif(nrow(d)) < 0.8, ]
  sds <- c(0.6, 1, 1.5)
  b <- normal_rows(30, outer(sds, sds) * matrix(c(1, .6, .3, .6, 1, .5, .3, .5, 1), 3))
  f <- match(d$f, c("lo", "mid", "hi"))
  y <- 10 + c(0, 1, 2.5)[f] + b[cbind(number(d$g), f)] + rnorm(nrow(d), 0, 0.9)
  data.frame(g = d$g, f = d$f, dmid = as.integer(f == 2), dhi = as.integer(f == 3), y = rounded(y))
}

# A square, a logarithm and a factor.
quad <- function() {
  set.seed(5)
  n <- 240
  g <- rep(labels_of("g", 20), each = 12)
  k <- number(g)
  x <- rounded(runif(n, -3, 3), 3)
  z <- rounded(exp(rnorm(n)), 4)
  f <- sample(c("a", "b", "c"), n, TRUE)
  y <- 3 + 0.8 * x - 0.4 * x^2 + 0.5 * log(z) + c(0, 0.5, -0.5)[match(f, letters)] +
    rnorm(20, 0, 0.7)[k] + rnorm(20, 0, 0.2)[k] * x + rnorm(n, 0, 0.6)
  data.frame(g = g, f = f, x = x, z = z, y = rounded(y))
}

# Missing values in the response, the covariate, the factor and the grouping factor.
nasim <- function() {
  set.seed(6)
  n <- 180
  g <- sample(labels_of("g", 15), n, TRUE)
  f <- sample(c("ctl", "trt"), n, TRUE)
  x <- rounded(rnorm(n), 3)
  y <- rounded(1 + x + 0.5 * (f == "trt") + rnorm(15)[number(g)] + rnorm(n))
  y[c(1, 30, 77)] <- NA
  x[c(5, 30, 120)] <- NA
  f[c(8, 150)] <- NA
  g[c(9, 151)] <- NA
  data.frame(g = g, f = f, x = x, y = y)
}

# Thirty friends rate different subsets of sixty films, each with a residual sd of their own.
romcom <- function() {
  set.seed(7)
  M <- c(1, 1, 2, 3, 4, 25, sample(5:25, 24, TRUE))
  M <- M[sample(30)]
  R <- rnorm(30, 3.4, 0.6)
  sds <- runif(30, 0.3, 1.5)
  kind <- ifelse(sds < 0.65, "steady", ifelse(sds < 1.05, "usual", "erratic"))
  do.call(rbind, lapply(1:30, function(i) {
    movie <- sprintf("movie%02d", sort(sample(60, M[i])))
    data.frame(friend = sprintf("friend%02d", i), movie = movie, kind = kind[i],
               rating = rounded(R[i] + rnorm(M[i], 0, sds[i]), 3))
  }))
}

romcom5 <- function() {
  d <- romcom()
  d[d$friend %in% names(which(table(d$friend) >= 5)), ]
}

# Four states by four districts by five schools by three classrooms of about eight students,
# crossed with six backgrounds; labels are re-used inside the parent.
schools <- function() {
  set.seed(8)
  d <- expand.grid(classroom = paste0("c", 1:3), school = paste0("s", 1:5),
                   district = paste0("d", 1:4), state = c("KA", "KL", "MH", "TN"))
  sizes <- sample(5:11, nrow(d), TRUE)
  state <- rnorm(4, 0, 3)
  district <- rnorm(16, 0, 2)
  school <- rnorm(80, 0, 1.5)
  classroom <- rnorm(nrow(d), 0, 1.2)
  i <- rep(seq_len(nrow(d)), sizes)
  n <- length(i)
  above <- state[as.integer(d$state)] + district[as.integer(interaction(d$state, d$district))] +
    school[as.integer(interaction(d$state, d$district, d$school))] + classroom
  backgrounds <- paste0("ses", 1:6)
  ses <- sample(backgrounds, n, TRUE, prob = c(.1, .2, .25, .2, .15, .1))
  effect <- c(-3, -1.4, -0.6, 0.5, 1.7, 2.8)
  hours <- rounded(runif(n, 0, 10), 2)
  y <- 50 + 1.2 * hours + above[i] + effect[match(ses, backgrounds)] + rnorm(n, 0, 4)
  data.frame(d[i, c("state", "district", "school", "classroom")], ses = ses, hours = hours,
             y = rounded(y, 4))
}

# Eighty apps of fifteen publishers, each on about thirty of 200 devices, in one of three versions.
# The score y is the logarithm of version 1's crashes in 100 hours.
appcrash <- function() {
  set.seed(9)
  publisher <- c(1:15, sample(15, 65, TRUE, prob = (1:15) / 120))
  sizes <- pmax(15, rpois(80, 30))
  i <- rep(1:80, sizes)
  device <- unlist(lapply(sizes, function(k) sort(sample(200, k))))
  y <- 2 + rnorm(15, 0, 0.5)[publisher[i]] + rnorm(80, 0, 0.4)[i] + rnorm(200, 0, 0.6)[device] +
    rnorm(length(i), 0, 0.7)
  y <- rounded(y, 5)
  version <- sample(3, length(i), TRUE, prob = c(.3, .45, .25))
  exposure <- rounded(exp(rnorm(length(i), log(30), 0.8)), 1)
  crashes <- rpois(length(i), exposure / 100 * exp(y + c(0, -0.4, -0.2)[version]))
  data.frame(publisher = sprintf("pub%02d", publisher[i]), app = sprintf("app%02d", i),
             device = sprintf("dev%03d", device), y = y, version = paste0("v", version),
             exposure = exposure, crashes = crashes)
}

# A hundred and twenty students answer 24 items of three kinds: Rasch's model.
answers <- function() {
  set.seed(15)
  d <- expand.grid(item = labels_of("i", 24), student = sprintf("s%03d", 1:120))
  grade <- sample(c("7", "8"), 120, TRUE)
  hours <- rounded(runif(120, 0, 10), 1)
  ability <- rnorm(120, 0, 1) + 0.12 * (hours - 5) + 0.5 * (grade == "8")
  kinds <- rep(c("arithmetic", "algebra", "geometry"), each = 8)
  difficulty <- rnorm(24, 0, 0.8) - rep(c(1.2, 0.2, -0.4), each = 8)
  s <- number(d$student)
  i <- number(d$item)
  correct <- rbinom(nrow(d), 1, plogis(ability[s] - difficulty[i]))
  data.frame(student = d$student, grade = grade[s], hours = hours[s], item = d$item,
             kind = kinds[i], correct = correct)
}

# A trial of 200 patients at five visits; whoever does not improve is likely to leave.
trial <- function() {
  set.seed(16)
  week <- c(2, 4, 8, 12, 16)
  arm <- sample(rep(c("placebo", "active"), 100))
  baseline <- rounded(rnorm(200, 50, 8), 1)
  sds <- c(6, 7, 8, 9, 10)
  R <- 0.3 + 0.7 * exp(-abs(outer(week, week, "-")) / 6)
  e <- matrix(rnorm(1000), 200) %*% chol(R * outer(sds, sds))
  gain <- rbind(placebo = c(1, 2, 3, 3, 3), active = c(2, 4, 7, 8.5, 9))
  y <- rounded(20 + 0.6 * baseline - gain[arm, ] + e, 1)
  day <- t(replicate(200, 7 * week + sample(-3:3, 5, TRUE)))
  stays <- matrix(runif(1000), 200) > plogis(-2.4 + 0.11 * (y - baseline))
  seen <- cbind(TRUE, t(apply(stays[, -5], 1, cumprod)) == 1)
  i <- t(row(y))[t(seen)]
  v <- t(col(y))[t(seen)]
  data.frame(patient = sprintf("p%03d", i), arm = arm[i], baseline = baseline[i],
             visit = paste0("week", week[v]), week = week[v], day = day[cbind(i, v)],
             score = y[cbind(i, v)])
}

DATA_SETS <- list(
  sleepstudy.csv = function() published("sleepstudy"),
  Dyestuff.csv = function() published("Dyestuff"),
  Dyestuff2.csv = function() published("Dyestuff2"),
  Penicillin.csv = function() published("Penicillin"),
  Pastes.csv = function() published("Pastes")[, c("strength", "batch", "cask", "sample")],
  cake.csv = function() published("cake")[
    , c("replicate", "recipe", "temperature", "temp", "angle")],
  InstEval.csv.gz = function() published("InstEval"),
  RatPupWeight.csv = function() published("RatPupWeight", "nlme")[
    , c("weight", "sex", "Litter", "Lsize", "Treatment")],
  star_k.csv = star_k,
  psych.csv = function() psych(matrix(c(0.36, 0.08, 0.08, 0.25), 2),
                               matrix(c(0.16, -0.04, -0.04, 0.16), 2)),
  # Slopes of so small a variance that the fit is singular.
  psych_small.csv = function() psych(matrix(c(0.25, 0.0375, 0.0375, 0.0625), 2),
                                     matrix(c(0.09, -0.018, -0.018, 0.0225), 2)),
  wtsim.csv = wtsim, offsim.csv = offsim, facslope.csv = facslope, quad.csv = quad,
  nasim.csv = nasim, romcom.csv = romcom,
  romcom5.csv = romcom5, schools.csv = schools, appcrash.csv = appcrash, answers.csv = answers,
  trial.csv = trial,
  cbpp.csv = function() published("cbpp")[, c("herd", "period", "incidence", "size")]
)

make_data_set <- function(file) {
  data <- DATA_SETS[[file]]()
  cells <- lapply(data, function(v) {
    text <- if (is.numeric(v)) json_numbers(v) else as.character(v)
    ifelse(is.na(v), "", text)
  })
  folder <- file.path(OUT, "data")
  dir.create(folder, recursive = TRUE, showWarnings = FALSE)
  path <- file.path(folder, file)
  con <- if (grepl("gz$", file)) gzfile(path, "wb", compression = 9) else file(path, "wb")
  on.exit(close(con))
  rows <- do.call(paste, c(unname(cells), sep = ","))
  writeLines(c(paste(names(data), collapse = ","), rows), con)
  cat(file, nrow(data), "rows\n")
}
