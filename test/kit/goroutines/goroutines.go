// Package goroutines finds goroutines that were left behind. A package whose code
// starts some has a TestMain that calls Main:
//
//	func TestMain(m *testing.M) { goroutines.Main(m) }
package goroutines

import (
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	// patience is how long goroutines may take to end once the tests have: they
	// need a moment, and where many processes share few processors a long one.
	patience = 3 * time.Minute
	// pause between two looks.
	pause = 20 * time.Millisecond
)

// lasting are goroutines that a program has once, for good, and that nobody can end.
var lasting = regexp.MustCompile(`^(` + strings.Join([]string{
	`testing\.`, `os/signal\.`,
	// The logger writes out what it holds every few seconds.
	`k8s\.io/klog/v2\.\(\*flushDaemon\)`,
}, "|") + `)`)

// Main runs the tests of a package, and panics if they pass but leave goroutines
// behind that were not there before.
func Main(m *testing.M) {
	before := Kinds(All())
	if m.Run() != 0 {
		return // that is what is to be mended first
	}
	if left := After(before, patience, All); len(left) > 0 {
		panic("the tests have left goroutines behind:\n" + strings.Join(left, "\n\n"))
	}
}

// After waits until there are no goroutines beyond those of before, which is what
// Kinds returned, and returns those that are left when its patience is at an end.
// now tells of the goroutines that there are.
func After(before map[string]int, within time.Duration, now func() string) []string {
	deadline := time.Now().Add(within)
	for {
		left := beyond(before, now())
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		<-time.After(pause)
	}
}

// All returns the stacks of all goroutines, the caller's first.
func All() string {
	for size := 1 << 20; ; size *= 2 {
		buffer := make([]byte, size)
		if n := runtime.Stack(buffer, true); n < size {
			return string(buffer[:n])
		}
	}
}

// beyond returns the stacks of the goroutines that there are more of than before.
func beyond(before map[string]int, stacks string) []string {
	rest := maps.Clone(before)
	var left []string
	for _, stack := range split(stacks) {
		kind := kindOf(stack)
		if rest[kind]--; rest[kind] < 0 && !lasting.MatchString(kind) {
			left = append(left, stack)
		}
	}
	return left
}

// Kinds counts the goroutines of each kind in a dump of stacks, as All returns it or
// /debug/pprof/goroutine?debug=2: a kind is the function that a goroutine began
// with, and the one that started it.
func Kinds(stacks string) map[string]int {
	kinds := map[string]int{}
	for _, stack := range split(stacks) {
		kinds[kindOf(stack)]++
	}
	return kinds
}

// split returns the stack of each goroutine, but not that of the one that asks.
func split(stacks string) []string {
	all := strings.Split(strings.TrimSpace(stacks), "\n\n")
	return slices.DeleteFunc(all, func(stack string) bool {
		return !strings.HasPrefix(stack, "goroutine ") || strings.Contains(stack, "\nruntime.Stack(") || strings.Contains(stack, "runtime/pprof.writeGoroutineStacks")
	})
}

// frame finds the function of a line that is no position in a file: all but the
// arguments.
var frame = regexp.MustCompile(`(?m)^([^\s].*)\([^()]*\)$`)

// creator finds who started a goroutine.
var creator = regexp.MustCompile(`(?m)^created by (\S+)`)

func kindOf(stack string) string {
	_, calls, _ := strings.Cut(stack, "\n") // the first line has number and state
	first := "?"
	if frames := frame.FindAllStringSubmatch(calls, -1); len(frames) > 0 {
		first = frames[len(frames)-1][1]
	}
	if by := creator.FindStringSubmatch(calls); by != nil {
		return fmt.Sprintf("%s, started by %s", first, by[1])
	}
	return first
}
