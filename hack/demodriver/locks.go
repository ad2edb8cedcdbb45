package demodriver

import "sync"

// locks keeps calls from working on the same thing at the same time. Nobody ever
// waits: who does not get a lock answers ABORTED and is called again. Keys are
// made by the functions below; the zero value is ready for use.
type locks struct {
	mu      sync.Mutex
	holders map[string]int // number of readers, or exclusive
}

const exclusive = -1

func nameKey(kind, name string) string { return kind + " named " + name }
func idKey(id string) string           { return id }

// write takes a key for one holder alone.
func (l *locks) write(key string) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, held := l.holders[key]; held {
		return nil, false
	}
	l.set(key, exclusive)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.holders, key)
	}, true
}

// read takes a key together with any number of other readers.
func (l *locks) read(key string) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holders[key] == exclusive {
		return nil, false
	}
	l.set(key, l.holders[key]+1)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.holders[key]--; l.holders[key] == 0 {
			delete(l.holders, key)
		}
	}, true
}

func (l *locks) set(key string, holders int) {
	if l.holders == nil {
		l.holders = map[string]int{}
	}
	l.holders[key] = holders
}
