// Command notify_users sends an e-mail to each address of a list, in parallel, and then stores the results.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"github.com/durun/durun/guests/go/durun"
)

func notifyUsers(ctx context.Context, opid string, emails []string) error {
	results := make([]json.RawMessage, len(emails))
	errs := make([]error, len(emails))
	var wg sync.WaitGroup
	for i, to := range emails {
		wg.Add(1)
		go func() {
			defer wg.Done()
			results[i], errs[i] = durun.CallJSON[json.RawMessage](ctx, "send_email", map[string]string{"to": to})
		}()
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	if _, err := durun.CallJSON[any](ctx, "store_results", map[string]any{"opid": opid, "results": results}); err != nil {
		return err
	}
	fmt.Println("stored", len(results))
	return nil
}

func run() error {
	input, err := durun.InputJSON[struct {
		OpID   string
		Emails []string
	}]()
	if err != nil {
		return err
	}
	return notifyUsers(durun.Context(), input.OpID, input.Emails)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "notify_users:", err)
		os.Exit(1)
	}
}
