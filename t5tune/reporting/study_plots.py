"""What each way of a study learnt and forgot, as a picture."""

from t5tune.reporting import plots, study_plan, study_scores


def balance(found: study_scores.Found) -> str:
  """Draws the change of both losses from `before`: right is learnt, down is forgotten.

  `single` is left out: it never knew the other tasks.

  Args:
    found: what the study found.

  Returns:
    SVG; every seed is a point, and the interpolation a line.
  """
  before = found.ways[study_plan.BEFORE]

  def change(made, start):
    return start.domain_loss - made.domain_loss, start.others_loss - made.others_loss

  with plots.picture("study", (6.5, 4.2)) as (axes, out):
    axes.axhline(0, color=plots.GREY, linewidth=0.8)
    for seed, rows in found.alphas.items():
      first = rows[0][1]
      points = [change(made, first) for _, made in rows]
      label = "each alpha, on the validation split" if not seed else None
      axes.plot(*zip(*points, strict=True), color=plots.GREY, marker=".", label=label)
    shown = [way for way in found.ways if way not in (study_plan.BEFORE, "single")]
    for way, colour in zip(shown, plots.COLOURS, strict=False):
      points = [change(m, b) for m, b in zip(found.ways[way], before, strict=False)]
      axes.scatter(*zip(*points, strict=True), s=42, color=colour, label=way, zorder=3)
    axes.set_xlabel(f"learnt: loss on {found.domain} lower by, nats a token")
    axes.set_ylabel("elsewhere: loss lower by (below 0: forgotten)")
    axes.legend(frameon=False, fontsize=9)
  return out.text
