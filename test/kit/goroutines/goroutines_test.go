package goroutines_test

import (
	"strings"
	"testing"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/goroutines"
)

// moment is too short for anything to end.
const moment = time.Millisecond

// stay begins, and stays.
func stay(began chan<- struct{}, until <-chan struct{}) {
	began <- struct{}{}
	<-until
}

func TestAGoroutineThatStaysIsFoundUntilItEnds(t *testing.T) {
	before := goroutines.Kinds(goroutines.All())
	began, until := make(chan struct{}), make(chan struct{})
	for range 2 {
		go stay(began, until)
		<-began
	}
	left := goroutines.After(before, moment, goroutines.All)
	if len(left) != 2 || !strings.Contains(left[0], "goroutines_test.stay") {
		t.Errorf("%d goroutines found, want 2:\n%s", len(left), strings.Join(left, "\n\n"))
	}
	// One more of a kind that was there before is found, too.
	now := goroutines.Kinds(goroutines.All())
	go stay(began, until)
	<-began
	if left := goroutines.After(now, moment, goroutines.All); len(left) != 1 {
		t.Errorf("%d goroutines found, want 1", len(left))
	}
	close(until)
	if left := goroutines.After(before, 3*time.Minute, goroutines.All); len(left) != 0 {
		t.Errorf("%d goroutines found after their end:\n%s", len(left), strings.Join(left, "\n\n"))
	}
}

func TestGoroutinesAreOfOneKindByTheirFirstFunction(t *testing.T) {
	t.Parallel()
	const dump = `goroutine 1 [chan receive, 2 minutes]:
main.run(0xc000)
	/src/main.go:10 +0x2
main.main()
	/src/main.go:5 +0x1

goroutine 7 [select]:
example.com/work.(*Queue[...]).wait(...)
	/src/queue.go:3
example.com/work.Start.func1()
	/src/queue.go:7 +0x1
created by example.com/work.Start in goroutine 1
	/src/queue.go:6 +0x1

goroutine 8 [sync.Mutex.Lock]:
example.com/work.Start.func1()
	/src/queue.go:7 +0x1
created by example.com/work.Start in goroutine 1
	/src/queue.go:6 +0x1
`
	kinds := goroutines.Kinds(dump)
	const queue = "example.com/work.Start.func1, started by example.com/work.Start"
	if len(kinds) != 2 || kinds["main.main"] != 1 || kinds[queue] != 2 {
		t.Errorf("kinds are %v", kinds)
	}
}
