// Package house keeps the conventions of this repository as ordinary tests.
//
// A check is a function over a tree of files that returns what breaks a
// convention, one line each, with the way out. TestRepository runs every check
// over the repository; TestChecks runs every check over small trees written in
// the test, at least one of which it must reject: a check that cannot fail
// proves nothing.
//
// The checks read source text only (go/parser, go/types without imports), so
// that they judge files of every operating system and of nested modules alike,
// and work while a package does not compile. What a linter already decides is
// left to .golangci.yml.
//
// The rules come from the design of the packages: who may import whom is the
// table in layers.go.
package house
