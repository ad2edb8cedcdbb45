package csidriver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/pkg/ledger"
)

// final are the codes that are a driver's word that nothing exists; any other
// number, of whatever future, is none.
func final(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.ResourceExhausted, codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented:
		return true
	}
	return false
}

// A volume is forgotten only on the driver's clear word, in however many words
// that is wrapped, and the user reads who said what.
func FuzzClassify(f *testing.F) {
	for code := range codes.Code(18) {
		f.Add(uint32(code), "pool is full", uint8(0), "clone.example.com", "pvc-1")
		f.Add(uint32(code), "", uint8(0xff), "", "")
	}
	f.Add(uint32(1<<31), "a\nb", uint8(5), "\"", "\xff")
	f.Fuzz(func(t *testing.T, number uint32, text string, wrapping uint8, driver, volume string) {
		code := codes.Code(number)
		err := status.Error(code, text)
		switch {
		case wrapping&1 != 0:
			err = errors.New(text)
		case wrapping&2 != 0:
			err = []error{context.Canceled, context.DeadlineExceeded}[wrapping>>2&1]
		}
		plain := wrapping&3 != 0
		if err == nil {
			return // status.Error of OK is none
		}
		for range wrapping >> 4 & 3 {
			err = fmt.Errorf("calling: %w", err)
		}
		meaning := Classify(err).Proof
		switch {
		case meaning == ledger.Created:
			t.Errorf("%v means that the volume is there", err)
		case plain && meaning != ledger.Indeterminate:
			t.Errorf("%v, which no driver said, means %d", err, meaning)
		case meaning == ledger.Absent && !final(code):
			t.Errorf("%v means that nothing exists", err)
		case !plain && final(code) && meaning != ledger.Absent:
			t.Errorf("%v means %d, want that nothing exists", err, meaning)
		}
		told := explain(driver, "CreateVolume", volume, err)
		if !errors.Is(told, err) || Classify(told).Proof != meaning || status.Code(told) != status.Code(err) {
			t.Errorf("%v means %d, was %d", told, Classify(told).Proof, meaning)
		}
		if words := told.Error(); !strings.HasPrefix(words, fmt.Sprintf("driver %q ", driver)) || !strings.Contains(words, fmt.Sprintf("CreateVolume for volume %q", volume)) || !strings.HasSuffix(words, err.Error()) {
			t.Errorf("the words are %q", words)
		}
	})
}
