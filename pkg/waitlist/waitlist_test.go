package waitlist_test

import (
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/waitlist"
)

func claimObject(name string) waitlist.Object {
	return waitlist.Object{Kind: "PersistentVolumeClaim", Namespace: "shop", Name: name}
}

func TestWaitingFor(t *testing.T) {
	db, other := claimObject("db"), claimObject("other")
	class := waitlist.Object{Kind: "StorageClass", Name: "fast"}
	for _, c := range []struct {
		name string
		do   func(*waitlist.List[string])
		ask  waitlist.Object
		want []string
		len  int
	}{
		{"nobody waits on an empty list", func(*waitlist.List[string]) {}, db, []string{}, 0},
		{"whoever was added waits", func(l *waitlist.List[string]) { l.Add("a", db); l.Add("b", db) }, db, []string{"a", "b"}, 2},
		{"adding twice counts once", func(l *waitlist.List[string]) { l.Add("a", db, db); l.Add("a", db) }, db, []string{"a"}, 1},
		{"one claim waits for several objects", func(l *waitlist.List[string]) { l.Add("a", db, class) }, class, []string{"a"}, 1},
		{"a later object comes on top of earlier ones", func(l *waitlist.List[string]) { l.Add("a", db); l.Add("a", class) }, db, []string{"a"}, 1},
		{"no object is no wait", func(l *waitlist.List[string]) { l.Add("a") }, db, []string{}, 0},
		{"a claim that is dropped waits for nothing", func(l *waitlist.List[string]) { l.Add("a", db, class); l.Drop("a") }, class, []string{}, 0},
		{"dropping one leaves the others", func(l *waitlist.List[string]) { l.Add("a", db); l.Add("b", db); l.Drop("a") }, db, []string{"b"}, 1},
		{"dropping whom nobody knows does nothing", func(l *waitlist.List[string]) { l.Add("a", db); l.Drop("z") }, db, []string{"a"}, 1},
		{"who is dropped can be added again", func(l *waitlist.List[string]) { l.Add("a", db); l.Drop("a"); l.Add("a", other) }, db, []string{}, 1},
		{
			"another kind of the same name is another object",
			func(l *waitlist.List[string]) { l.Add("a", waitlist.Object{Kind: "PersistentVolume", Name: "fast"}) },
			class, []string{}, 1,
		},
		{
			"another namespace is another object",
			func(l *waitlist.List[string]) {
				l.Add("a", waitlist.Object{Kind: db.Kind, Namespace: "else", Name: db.Name})
			}, db, []string{}, 1,
		},
		{
			"asking takes nobody off the list",
			func(l *waitlist.List[string]) { l.Add("a", db); l.WaitingFor(db) }, db, []string{"a"}, 1,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := waitlist.New[string]()
			c.do(list)
			got := list.WaitingFor(c.ask)
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("waiting: %v, want %v", got, c.want)
			}
			if list.Awaited(c.ask) != (len(c.want) > 0) {
				t.Errorf("awaited: %t", list.Awaited(c.ask))
			}
			if list.Len() != c.len {
				t.Errorf("%d claims on the list, want %d", list.Len(), c.len)
			}
		})
	}
}

func TestWaitingForGivesACopy(t *testing.T) {
	list, db := waitlist.New[string](), claimObject("db")
	list.Add("a", db)
	list.WaitingFor(db)[0] = "changed"
	if got := list.WaitingFor(db); !slices.Equal(got, []string{"a"}) {
		t.Errorf("waiting: %v, want [a]", got)
	}
}

// Many claims come and go at once; who stays is on the list, who went is not.
func TestManyAtOnce(t *testing.T) {
	const claims = 200
	list, db := waitlist.New[int](), claimObject("db")
	var all sync.WaitGroup
	for i := range claims {
		all.Go(func() {
			own := claimObject(strconv.Itoa(i))
			list.Add(i, db, own)
			list.WaitingFor(db)
			list.Len()
			if i%2 == 1 {
				list.Drop(i)
			}
		})
	}
	all.Wait()
	got := list.WaitingFor(db)
	if len(got) != claims/2 || list.Len() != claims/2 {
		t.Fatalf("%d wait and %d are listed, want %d", len(got), list.Len(), claims/2)
	}
	for _, i := range got {
		if i%2 == 1 {
			t.Errorf("claim %d was dropped but waits", i)
		}
		list.Drop(i)
	}
	if list.Len() != 0 || len(list.WaitingFor(db)) != 0 {
		t.Errorf("the list is not empty after all were dropped: %d", list.Len())
	}
}
