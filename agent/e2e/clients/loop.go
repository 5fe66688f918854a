package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
)

// loop reads an object once for each line that it gets, as a program does that
// runs for weeks, and says how each went. Its SDK keeps what it keeps.
func loop(ctx context.Context, c client, bucket string, in io.Reader, out io.Writer) error {
	say := json.NewEncoder(out)
	if err := say.Encode(map[string]string{"client": c.name(), "version": version(c.name())}); err != nil {
		return err
	}
	for turns := bufio.NewScanner(in); turns.Scan(); {
		text := ""
		if _, err := c.get(ctx, bucket, "seed"); err != nil {
			text = err.Error()
		}
		if err := say.Encode(map[string]string{"error": text}); err != nil {
			return err
		}
	}
	return nil
}
