package waitlist

import "testing"

// A process lives for months: what nobody waits for must cost nothing.
func TestDropLeavesNothingBehind(t *testing.T) {
	list := New[string]()
	db := Object{Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "db"}
	list.Add("a", db, Object{Kind: "StorageClass", Name: "fast"})
	list.Add("b", db)
	list.Drop("a")
	list.Drop("b")
	if len(list.waiters) != 0 || len(list.objects) != 0 {
		t.Errorf("left behind: %v, %v", list.waiters, list.objects)
	}
}
