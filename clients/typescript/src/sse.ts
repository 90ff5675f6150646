/** One block of an event stream. Without a name `event` is empty; without `data` it only brings the id. */
export type Block = (event: string, data: string | undefined, id: string) => void;

/** Reads an event stream, in pieces that may be cut anywhere. */
export function parser(block: Block): (text: string) => void {
  let rest = "";
  let event = "";
  let data: string | undefined;
  let id = "";
  return (text) => {
    // A CR at the very end may be half of a line's end.
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop()!;
    for (const line of lines) {
      if (!line) {
        block(event, data, id);
        event = "";
        data = undefined;
        continue;
      }
      const [, field, value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(line)!;
      if (field === "data") data = data === undefined ? value : `${data}\n${value}`;
      else if (field === "event") event = value;
      else if (field === "id") id = value;
    }
  };
}
