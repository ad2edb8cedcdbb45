package kit

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/kit/process"
)

const (
	// booksPatience is how long the books may take to come right. A source's
	// finalizer is swept off every 30 s; a lease of a killed leader takes 40 s.
	booksPatience = 10 * time.Minute
	// logTail is how many lines of each provisioner's log a failed test shows,
	// unless ShowLogs says otherwise.
	logTail = 150
)

// denial is how the API server says that RBAC does not allow something; quotas
// and namespaces being deleted use other words after "forbidden".
var denial = regexp.MustCompile(`forbidden: User \S+ cannot [^\n]*`)

// crash is what Go prints when a program breaks.
var crash = regexp.MustCompile(`(?m)^(panic: |fatal error: |WARNING: DATA RACE).*`)

// allowances are what a test says is all right although it usually is not.
type allowances struct {
	record, protection map[string]bool
	forbidden          bool
	noBooks            string
	logTail            int
}

// AllowRecord says that claims may keep the record finalizer at the end.
func (e *Env) AllowRecord(claims ...string) { allow(e, &e.allowed.record, claims) }

// AllowProtection says that claims may keep the finalizer of a source.
func (e *Env) AllowProtection(claims ...string) { allow(e, &e.allowed.protection, claims) }

// AllowForbidden says that the provisioner may be denied something: the test
// takes rights away from it.
func (e *Env) AllowForbidden() { e.allowed.forbidden = true }

// SkipBooks leaves the books unchecked; reason says why that is all right.
func (e *Env) SkipBooks(reason string) { e.allowed.noBooks = reason }

// ShowLogs changes how many lines of each provisioner's log a failed test shows,
// which are too many for one that starts dozens.
func (e *Env) ShowLogs(lines int) { e.allowed.logTail = lines }

func allow(e *Env, set *map[string]bool, claims []string) {
	if *set == nil {
		*set = map[string]bool{}
	}
	for _, claim := range claims {
		namespace, name := e.split(claim)
		(*set)[namespace+"/"+name] = true
	}
}

// finish ends the test's world: first the books while everything still runs,
// then the provisioners, then what they said, then the driver.
func (e *Env) finish() {
	if e.Driver == nil {
		return // New did not get far
	}
	if e.gateway != nil {
		e.gateway.Reset()
	}
	if err := e.calmDriver(); err != nil {
		e.t.Error(err)
	}
	e.CheckBooks()
	for _, p := range e.provisioners {
		e.retire(p)
	}
	if e.t.Failed() && e.allowed.logTail > 0 {
		for _, p := range e.provisioners {
			e.t.Logf("the end of the log of %s (%s):\n%s", p.proc.Name(), p.proc.LogFile(), process.Tail(p.Log(), e.allowed.logTail))
		}
	}
	e.closeGateway()
	for _, server := range e.drivers() {
		if err := server.Close(); err != nil {
			e.t.Errorf("stopping driver %q: %v", e.DriverName, err)
		}
	}
	if e.world == shared && !e.t.Failed() {
		if err := e.clearAway(); err != nil {
			e.t.Logf("what the test has made is not cleared away: %v", err)
		}
	}
}

// clearAway takes claims, PVs and classes of the test out of the cluster, whatever
// finalizers they have: each provisioner that another test starts would read them,
// and each look at books would.
func (e *Env) clearAway() error {
	free := []byte(`{"metadata":{"finalizers":null}}`)
	core := e.Admin.CoreV1()
	for _, namespace := range e.namespaces {
		claims, err := core.PersistentVolumeClaims(namespace).List(e.Ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, claim := range claims.Items {
			err := core.PersistentVolumeClaims(namespace).Delete(e.Ctx, claim.Name, metav1.DeleteOptions{})
			if err == nil {
				_, err = core.PersistentVolumeClaims(namespace).Patch(e.Ctx, claim.Name, types.MergePatchType, free, metav1.PatchOptions{})
			}
			if err != nil && !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	pvs, err := e.pvs()
	if err != nil {
		return err
	}
	for _, pv := range pvs {
		err := core.PersistentVolumes().Delete(e.Ctx, pv.Name, metav1.DeleteOptions{})
		if err == nil {
			_, err = core.PersistentVolumes().Patch(e.Ctx, pv.Name, types.MergePatchType, free, metav1.PatchOptions{})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	for _, class := range e.classes {
		if err := e.Admin.StorageV1().StorageClasses().Delete(e.Ctx, class, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// CheckBooks waits until every volume has its PV, every PV its volume and no
// finalizer of ours is where it should not be; without a running provisioner it
// looks once. It is called at the end of every test, and may be before.
func (e *Env) CheckBooks() {
	e.t.Helper()
	if e.allowed.noBooks != "" {
		e.t.Logf("the books are not checked: %s", e.allowed.noBooks)
		return
	}
	within := e.booksTime()
	err := e.try(within, func() error {
		books, err := e.readBooks()
		if err != nil {
			return err
		}
		if wrong := books.errors(); len(wrong) > 0 {
			return errors.New(strings.Join(wrong, "\n  "))
		}
		return nil
	})
	if err != nil {
		e.t.Errorf("the books are wrong after %s:\n  %v\n%s", within, err, e.state())
	}
}

// booksTime returns how long the books may take: no time where nobody puts them
// right, or where the test has failed already and its reader waits.
func (e *Env) booksTime() time.Duration {
	for _, p := range e.provisioners {
		if p.Running() && !e.t.Failed() {
			return booksPatience
		}
	}
	return 0
}

// retire stops a provisioner and looks at how it ended and what it logged.
func (e *Env) retire(p *Provisioner) {
	switch {
	case p.ended:
		if p.Running() {
			p.Kill()
		}
	case !p.Running():
		e.t.Errorf("%s ended by itself: %s", p.proc.Name(), p.proc.Fate())
	default:
		// A test may have left it stopped by SIGSTOP.
		p.Signal(syscall.SIGCONT)
		if code := p.Stop(); code != 0 {
			e.t.Errorf("%s ended with code %d after SIGTERM (%s), want 0", p.proc.Name(), code, p.proc.Fate())
		}
	}
	log := p.Log()
	if denials := distinct(denial.FindAllString(log, -1)); len(denials) > 0 && !e.allowed.forbidden {
		e.t.Errorf("%s was denied what it needs (it is %s, see test/kit/accounts.go):\n  %s", p.proc.Name(), e.User(), strings.Join(denials, "\n  "))
	}
	if crashes := distinct(crash.FindAllString(log, -1)); len(crashes) > 0 {
		e.t.Errorf("%s crashed:\n  %s", p.proc.Name(), strings.Join(crashes, "\n  "))
	}
}

func distinct(lines []string) []string {
	seen := map[string]bool{}
	var all []string
	for _, line := range lines {
		if !seen[line] {
			seen[line] = true
			all = append(all, line)
		}
	}
	return all
}

// state describes the test's objects, for failures.
func (e *Env) state() string {
	books, err := e.readBooks()
	if err != nil {
		return fmt.Sprintf("(the state cannot be read: %v)", err)
	}
	var text strings.Builder
	for _, claim := range books.claims {
		fmt.Fprintf(&text, "claim %s: %s%s, PV %q, finalizers %v", key(claim), claim.Status.Phase, deleting(claim), claim.Spec.VolumeName, claim.Finalizers)
		if from := source(claim); from != "" {
			fmt.Fprintf(&text, ", clone of %s", from)
		}
		if events, err := e.events(key(claim)); err == nil {
			text.WriteString(describeEvents(events))
		}
		text.WriteString("\n")
	}
	for _, pv := range books.pvs {
		fmt.Fprintf(&text, "PV %s: %s, volume %s, finalizers %v, deleting %t\n", pv.Name, pv.Status.Phase, pv.Spec.CSI.VolumeHandle, pv.Finalizers, pv.DeletionTimestamp != nil)
	}
	for _, volume := range books.volumes {
		fmt.Fprintf(&text, "volume %s: name %s, %d bytes, source %q\n", volume.ID, volume.Name, volume.Bytes, volume.SourceVolumeID+volume.SourceSnapshotID)
	}
	for _, method := range []string{"CreateVolume", "DeleteVolume"} {
		fmt.Fprintf(&text, "%d calls of %s\n", len(e.Faults.Calls(method)), method)
	}
	return text.String()
}
