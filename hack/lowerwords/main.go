// lowerwords prints test/house/words.txt with today's numbers, none of them higher than it is
// in that file. It runs in the root of the repository.
package main

import (
	"fmt"
	"os"

	"github.com/csi-clone-provisioner/csi-clone-provisioner/test/house"
)

func main() {
	text, err := house.LowerWords(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, "lowerwords:", err)
		os.Exit(1)
	}
	fmt.Print(text)
}
