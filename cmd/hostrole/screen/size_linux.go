package screen

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalSize is 0 for what is no terminal, or does not say.
func terminalSize(f *os.File) (wide, high int) {
	s, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(s.Col), int(s.Row)
}
