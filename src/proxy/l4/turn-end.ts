let waiting: Array<() => void> = [];

/** Calls `act` when all that has come in this turn of the event loop has been read: for what is better done once for all of it. */
export function atTurnEnd(act: () => void): void {
  if (waiting.push(act) === 1) setImmediate(actAll);
}

function actAll(): void {
  const acts = waiting;
  waiting = [];
  for (const act of acts) act();
}
