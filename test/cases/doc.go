// Package cases says by examples what becomes of a claim: the CreateVolume request that
// the driver gets, the PV that is made of its reply, or the words with which the user is
// refused. The files in testdata are the specification; each case has above the line "---" how
// it differs from the plain case (testdata/base.yaml), and below it what is different in the
// outcome for that.
//
//	go test ./test/cases          # compares
//	go test ./test/cases -update  # writes what is below the lines
package cases
