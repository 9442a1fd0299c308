// One screen: address, prompt and seed, a button, and the picture as it grows.
package io.edgecascade.example

import android.app.Activity
import android.graphics.BitmapFactory
import android.os.Bundle
import android.text.InputType
import android.widget.Button
import android.widget.EditText
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.TextView
import kotlin.concurrent.thread

private const val PARTS = 1000 // of the progress bar

class MainActivity : Activity() {
    private lateinit var picture: ImageView
    private lateinit var line: TextView
    private lateinit var bar: ProgressBar
    private lateinit var button: Button
    private var drawing: Drawing? = null

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        val column = LinearLayout(this).apply { orientation = LinearLayout.VERTICAL }
        val address = field("Server, host:port", "10.0.2.2:7860")
        val prompt = field("Prompt", "a red apple, noto style")
        val seed = field("Seed", "0").apply { inputType = InputType.TYPE_CLASS_NUMBER }
        picture = ImageView(this).apply { adjustViewBounds = true; contentDescription = "The picture" }
        line = TextView(this)
        bar = ProgressBar(this, null, android.R.attr.progressBarStyleHorizontal).apply { max = PARTS }
        button = Button(this).apply { text = "Draw" }
        button.setOnClickListener {
            if (drawing == null) draw(address.value(), prompt.value(), seed.value().toLongOrNull() ?: 0) else giveUp()
        }
        listOf(address, prompt, seed, button, bar, line, picture).forEach(column::addView)
        setContentView(column)
    }

    override fun onDestroy() {
        giveUp()
        super.onDestroy()
    }

    private fun field(name: String, value: String) = EditText(this).apply { hint = name; setText(value) }

    private fun EditText.value() = text.toString().trim()

    private fun draw(address: String, prompt: String, seed: Long) {
        button.text = "Cancel"
        drawing = Drawing(address) { shown -> runOnUiThread { show(shown, prompt) } }.apply { start(prompt, seed) }
    }

    private fun show(shown: Shown, prompt: String) {
        line.text = shown.line
        bar.progress = (shown.done * PARTS).toInt()
        shown.picture?.let {
            picture.setImageBitmap(BitmapFactory.decodeByteArray(it, 0, it.size))
            picture.contentDescription = prompt
        }
        if (shown.isOver) {
            button.text = "Draw"
            drawing?.close()
            drawing = null
        }
    }

    private fun giveUp() {
        val running = drawing ?: return
        thread { running.cancel() } // a call, and no call belongs on the thread of the screen
    }
}
