package chaos

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit"
)

const (
	// The lease is short, so that a kill does not stop everything for long.
	leaseDuration = 4 * time.Second
	renewDeadline = 3 * time.Second
	retryPeriod   = 500 * time.Millisecond
	// relaunchPause keeps provisioners that cannot work from being started at once.
	relaunchPause = time.Second
	// askPatience is how long a provisioner may take to say whether it leads.
	askPatience = time.Second
	// stopPatience is how long one may take to end after SIGTERM.
	stopPatience = 10 * time.Minute
)

// fleet is the provisioners, which are started again when they end, as the kubelet
// does.
type fleet struct {
	w        *world
	size     int
	members  []*member
	launched int
	last     time.Time // of the launches
	// ends is when provisioners ended, or were frozen: what they had in memory was
	// lost, or out of date.
	ends []time.Time
	// lives are those of all provisioners.
	lives []life
}

// life is that of one provisioner.
type life struct {
	number int
	prefix string
	ended  time.Time // zero while it goes on
}

type member struct {
	*kit.Provisioner
	number int
	// thaw is when a frozen one goes on, in the time of the script.
	thaw   time.Duration
	frozen bool
	// asked is when it was sent SIGTERM.
	asked time.Time
}

func (m *member) ending() bool { return !m.asked.IsZero() }

func newFleet(w *world) *fleet { return &fleet{w: w, size: 2} }

// tend reaps provisioners that have ended, thaws frozen ones, and starts new ones.
func (f *fleet) tend(now time.Duration) {
	f.members = slices.DeleteFunc(f.members, func(m *member) bool {
		if m.Running() {
			return false
		}
		f.ended(m)
		code := m.Wait()
		f.w.say("provisioner %d has ended: exit code %d", m.number, code)
		// 1: it lost its lease or its driver; -1: a signal.
		if code < -1 || code > 1 {
			f.w.t.Errorf("provisioner %d (pid %d) ended with exit code %d", m.number, m.PID(), code)
		}
		return true
	})
	at := 0
	for _, m := range f.members {
		if m.frozen && now >= m.thaw {
			m.Signal(syscall.SIGCONT)
			m.frozen = false
			f.w.say("thaw provisioner %d", m.number)
		}
		if m.ending() && time.Since(m.asked) > stopPatience {
			f.w.t.Errorf("provisioner %d (pid %d) has not ended within %s of SIGTERM", m.number, m.PID(), stopPatience)
			m.Signal(syscall.SIGKILL)
		}
		if !m.frozen && !m.ending() {
			at++
		}
	}
	if at < f.size && time.Since(f.last) > relaunchPause {
		f.launch()
	}
}

// launch starts one more provisioner; now and then with another prefix for the names
// of volumes.
func (f *fleet) launch() {
	f.launched++
	f.last = time.Now()
	prefix := "pvc"
	hash := fnv.New64a()
	fmt.Fprintf(hash, "provisioner %d", f.launched)
	if rand.New(rand.NewPCG(f.w.seed, hash.Sum64())).IntN(4) == 0 {
		prefix = "vol"
	}
	p := f.w.env.LaunchProvisioner(
		"--leader-election-lease-duration="+leaseDuration.String(),
		"--leader-election-renew-deadline="+renewDeadline.String(),
		"--leader-election-retry-period="+retryPeriod.String(),
		"--timeout=2s", "--retry-interval-start=100ms", "--retry-interval-max=2s",
		// So that the monkey knows for whom a volume is made.
		"--extra-create-metadata", "--strict-topology",
		"--volume-name-prefix="+prefix,
	)
	f.members = append(f.members, &member{Provisioner: p, number: f.launched})
	f.lives = append(f.lives, life{number: f.launched, prefix: prefix})
	f.w.say("launch provisioner %d, pid %d, prefix %s", f.launched, p.PID(), prefix)
}

// awake returns the members that are neither frozen nor about to end.
func (f *fleet) awake() []*member {
	return slices.DeleteFunc(slices.Clone(f.members), func(m *member) bool { return m.frozen || m.ending() || !m.Running() })
}

// victim returns a member, mostly the one that leads; nil if there is none.
func (f *fleet) victim(a, b int) *member {
	awake := f.awake()
	if a%4 != 0 {
		for _, m := range awake {
			if f.leads(m) {
				return m
			}
		}
	}
	return pick(awake, b)
}

// leads asks a member whether it is the leader.
func (f *fleet) leads(m *member) bool {
	ctx, cancel := context.WithTimeout(f.w.env.Ctx, askPatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL+"/metrics", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false // it has just been started
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "leader_election_master_status{") && strings.HasSuffix(strings.TrimSpace(line), " 1") {
			return true
		}
	}
	return false
}

// harm does to a program what the step says.
func (w *world) harm(s step) {
	a, b := s.pick[0], s.pick[1]
	switch s.kind {
	case fleetSize:
		w.fleet.size = 1 + a%2
		w.say("from now on %d provisioners", w.fleet.size)
	case apiServer:
		sig := []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[a%2]
		if w.api.begin(w, sig) {
			w.number.apiRestarts++
		}
	case driver:
		w.restartDriver()
	case kill, term, freeze:
		m := w.fleet.victim(a, b)
		if m == nil {
			w.say("no provisioner to %s", s.kind)
			return
		}
		w.fleet.harm(m, s)
	}
}

func (f *fleet) harm(m *member, s step) {
	leads := f.leads(m)
	f.ends = append(f.ends, time.Now())
	f.w.say("%s provisioner %d, leader %t", s.kind, m.number, leads)
	switch s.kind {
	case kill:
		f.w.number.kills++
		m.Signal(syscall.SIGKILL)
	case term:
		f.w.number.terms++
		m.Signal(syscall.SIGTERM)
		m.asked = time.Now()
	case freeze:
		f.w.number.freezes++
		m.Signal(syscall.SIGSTOP)
		m.frozen = true
		m.thaw = s.at + leaseDuration + time.Duration(1+s.pick[2]%4)*time.Second
	}
}

// stopAll kills every provisioner.
func (f *fleet) stopAll() {
	for _, m := range f.members {
		m.Signal(syscall.SIGKILL)
		m.Wait()
		f.ended(m)
	}
	f.members = nil
}

func (f *fleet) ended(m *member) {
	f.ends = append(f.ends, time.Now())
	f.lives[m.number-1].ended = time.Now()
}

// endAfter tells of a provisioner that ended, or was frozen, after a moment.
func (f *fleet) endAfter(moment time.Time) string {
	for _, end := range f.ends {
		if end.After(moment) {
			return "a provisioner ended or was frozen at " + end.Format("15:04:05.000")
		}
	}
	return ""
}

// otherPrefix tells of a provisioner that used another prefix after a moment.
func (f *fleet) otherPrefix(prefix string, moment time.Time) string {
	for _, l := range f.lives {
		if l.prefix != prefix && (l.ended.IsZero() || l.ended.After(moment)) {
			return fmt.Sprintf("provisioner %d gave names that begin with %s", l.number, l.prefix)
		}
	}
	return ""
}

func (w *world) restartDriver() {
	w.number.driverRestarts++
	w.say("restart the driver")
	if err := w.env.Driver.Restart(); err != nil {
		w.t.Fatalf("restarting the driver: %v", err)
	}
	w.serving.Store(w.env.Driver.Driver)
}

// restarts are those of the API server, one at a time, beside everything else.
type restarts struct{ ended chan error }

func (r *restarts) begin(w *world, sig syscall.Signal) bool {
	if r.ended != nil {
		w.say("the API server is being restarted already")
		return false
	}
	r.ended = make(chan error, 1)
	w.say("restart the API server (%s)", sig)
	go func(ended chan<- error) { ended <- w.env.Cluster.RestartAPIServer(w.env.Ctx, sig) }(r.ended)
	return true
}

// down says whether a restart is going on; wait waits for its end.
func (r *restarts) down(w *world, wait bool) bool {
	if r.ended == nil {
		return false
	}
	var err error
	select {
	case err = <-r.ended:
	default:
		if !wait {
			return true
		}
		err = <-r.ended
	}
	r.ended = nil
	if err != nil {
		w.t.Fatalf("restarting the API server: %v", err)
	}
	w.say("the API server is back")
	return false
}
