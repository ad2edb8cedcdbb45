package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// work sends requests until the API server certainly has what is wanted of the Lease. It returns
// an error that wraps ErrHeld, ErrFenced or ErrGivenUp, the API server's refusal, or that of ctx
// with the last request that had no answer. The caller holds t's lock.
func (j *Journal) work(ctx context.Context, t *tracked) error {
	pause := firstRetry
	for {
		v := t.slot.next()
		if v == none {
			if t.slot.fenced {
				return ErrFenced
			}
			return nil
		}
		var err error
		t.slot, err = j.step(ctx, t.slot, v)
		switch {
		case err == nil:
			continue
		case errors.Is(err, ErrGivenUp):
			j.noteGivenUp(ctx, t)
			return err
		case errors.Is(err, ErrFenced):
			if j.config.Fenced != nil {
				j.config.Fenced(err)
			}
			return err
		case !errors.Is(err, errUncertain):
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(pause):
		}
		pause = min(2*pause, lastRetry)
	}
}

// step sends one request.
func (j *Journal) step(ctx context.Context, s slot, v verb) (slot, error) {
	select {
	case j.flight <- struct{}{}:
		defer func() { <-j.flight }()
	case <-ctx.Done():
		return s, ctx.Err()
	}
	if j.config.MayAct != nil {
		if err := j.config.MayAct(); err != nil {
			return s, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	began := time.Now()
	lease, err := j.send(ctx, s, v)
	after, meaning := s.answered(v, lease, err)
	if v != get {
		j.noteWritten(v, began, err, meaning)
	}
	return after, meaning
}

func (j *Journal) send(ctx context.Context, s slot, v verb) (*coordinationv1.Lease, error) {
	leases := j.config.Leases
	switch v {
	case create:
		return leases.Create(ctx, s.body(), metav1.CreateOptions{})
	case update:
		return leases.Update(ctx, s.body(), metav1.UpdateOptions{})
	case remove:
		return nil, leases.Delete(ctx, s.name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &s.seen.UID, ResourceVersion: &s.seen.ResourceVersion},
		})
	case get, none:
	}
	return leases.Get(ctx, s.name, metav1.GetOptions{})
}

// noteWritten reports a write, and notes that this process was heard.
func (j *Journal) noteWritten(v verb, began time.Time, err, meaning error) {
	result := "ok"
	switch {
	case errors.Is(meaning, errUncertain):
		result = "unknown"
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		result = "conflict"
	case err != nil:
		result = "refused"
	}
	if j.config.Written != nil {
		j.config.Written(string(v), result, time.Since(began))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case err == nil && v != remove && began.After(j.renewed):
		j.renewed = began
	case v == create && result == "unknown":
		j.strayUntil = time.Now().Add(strayFor)
	}
}

// noteGivenUp forgets an entry that an administrator has deleted.
func (j *Journal) noteGivenUp(ctx context.Context, t *tracked) {
	j.mu.Lock()
	e, known := t.entry, t.recorded
	t.recorded = false
	j.mu.Unlock()
	if !known {
		return
	}
	j.log(ctx, e).Info("An administrator has deleted the journal entry: the volume is given up, and is not searched for any more", "lastAnswer", e.LastAnswer)
	j.forget(e.Claim.UID, t)
	if j.config.GivenUp != nil {
		j.config.GivenUp(e)
	}
}
