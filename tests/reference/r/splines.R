# Bases of splines and polynomials: those of R at rows with ties at both ends, at new rows inside the
# boundary knots, and outside. Rscript tests/reference/r/splines.R > tests/reference/splines.json
library(splines); library(jsonlite)
set.seed(20)
x <- c(rep(-1.5, 4), round(runif(21, -1.5, 4), 3), rep(4, 5))
new <- c(-1.5, -1.2, 0.25, 1.9, 3.99, 4)
out <- c(-4, -1.6, 4.5, 9)
bases <- list(
  "bs(x, df=4)" = bs(x, df=4), "bs(x, df=7)" = bs(x, df=7), "bs(x)" = bs(x),
  "bs(x, knots=[0.5, 2])" = bs(x, knots=c(0.5,2)), "bs(x, df=5, degree=2)" = bs(x, df=5, degree=2),
  "bs(x, df=6, intercept=True)" = bs(x, df=6, intercept=TRUE), "bs(x, df=3, degree=1)" = bs(x, df=3, degree=1),
  "ns(x, 4)" = ns(x, 4), "ns(x, df=1)" = ns(x, df=1), "ns(x, knots=[0.5, 2])" = ns(x, knots=c(0.5,2)),
  "ns(x, df=4, intercept=True)" = ns(x, df=4, intercept=TRUE),
  "ns(x, df=3, boundary_knots=(-1, 3))" = ns(x, df=3, Boundary.knots=c(-1,3)),
  "bs(x, df=5, boundary_knots=(-1, 3))" = bs(x, df=5, Boundary.knots=c(-1,3)),
  "poly(x, 3)" = poly(x, 3), "poly(x, 2, raw=True)" = poly(x, 2, raw=TRUE))
u <- function(m) { m <- as.matrix(m); attributes(m) <- list(dim=dim(m)); m }
cat(toJSON(list(x=x, new=new, outside=out, bases=lapply(bases, function(b) list(fitted=u(b), new=u(predict(b,new)), outside=u(predict(b,out))))), digits = I(17)))
