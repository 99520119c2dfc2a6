// Sends an e-mail to every address of a list, in parallel, and stores the results. Its input: {"opid": "op-1", "emails": ["…"]}.
//
// How fast the e-mails go out, and how often each is tried, is up to whoever runs the handler send_email.
import { Code, Operation, all, call, codeName, input } from "durun";
import { get, within } from "./json";

export function _start(): void {
  const opid = get(input(), "opid"), emails = get(input(), "emails");
  if (opid === null || emails === null) throw new Error("the input is no opid and emails");

  // The addresses stay as they are written in the input, quotes and all.
  const sent = within(emails).map<Operation<string>>((email) => call("send_email", `{"to":${email}}`));
  const code = all(sent);
  if (code != Code.Ok) {
    const why = sent.map<string>((operation) => operation.message).filter((message) => message.length > 0);
    throw new Error("send_email: " + codeName(code) + ": " + why.join("; "));
  }

  const results = sent.map<string>((operation) => operation.value).join(",");
  call("store_results", `{"opid":${opid},"results":[${results}]}`).result();
  console.log(`stored ${sent.length}`);
}
